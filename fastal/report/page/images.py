"""Columns of image addresses, and how a page shows them."""

import base64
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".bmp": "image/bmp",
    ".svg": "image/svg+xml",
}
_LARGEST, _TOTAL = 200_000, 20_000_000  # bytes of an image, and of all images that are embedded


def is_image(value: Any) -> bool:
    """Whether a value is the address of an image: by its extension, or as a data URI."""
    if not isinstance(value, str):
        return False
    if value.startswith("data:image/"):
        return True
    try:
        address = urlsplit(value)
    except ValueError:
        return False
    # A scheme of one letter is a drive. Others, such as "javascript", are no images.
    if len(address.scheme) > 1 and address.scheme not in ("http", "https", "file"):
        return False
    # Names of files may have the characters that begin a query or a fragment.
    return any(Path(path).suffix.lower() in _TYPES for path in (value, address.path))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # longer than the name of a file can be
        return False


class Images:
    """Turns addresses into what a page can show.

    Small files on this machine become part of the page, up to 20 MB together. Other files are
    referred to, by their path from the page.

    Args:
        page: the file of the page.

    Attributes:
        referred: how many are on this machine and are not.
        missing: how many of the files are missing.
        left_out: how many data URIs are too large to be part of the page.
        remote: how many are loaded from the network.
    """

    def __init__(self, page: Path) -> None:
        self._folder = page.parent
        self._left = _TOTAL
        self.referred = self.missing = self.left_out = self.remote = 0

    def shown(self, value: str, folder: Path | None) -> str:
        """The address for the page.

        Args:
            value: an address, of which `is_image` is true.
            folder: the folder of the file that holds it: relative paths begin there, or else in the
                working folder. None: it is in memory.
        """
        if value.startswith("data:"):
            if not self._has_room(len(value) * 3 // 4):  # base64 has 4 characters for 3 bytes
                self.left_out += 1
                return ""
            return value
        if urlsplit(value).scheme in ("http", "https", "file"):
            self.remote += 1
            return value
        candidates = [Path(value)] if folder is None else [folder / value, Path(value)]
        path = next(filter(_is_file, candidates), None)
        if path is None:
            self.missing += 1
            return quote(value, safe="/.:?&=#%+", errors="replace")
        size = path.stat().st_size
        # "a.png#2" may be the name of a file, which no reader would know as an image.
        of_type = _TYPES.get(path.suffix.lower())
        if of_type is not None and self._has_room(size):
            held = base64.b64encode(path.read_bytes()).decode()
            return f"data:{of_type};base64,{held}"
        self.referred += 1
        return quote(os.fsencode(os.path.relpath(path, self._folder)))

    def _has_room(self, size: int) -> bool:
        """Whether an image of so many bytes becomes part of the page; then it is counted."""
        if size > min(_LARGEST, self._left):
            return False
        self._left -= size
        return True

    def notes(self) -> list[str]:
        """What a reader of the page must know of its images."""
        notes = []
        if self.referred:
            notes.append(
                f"{self.referred:,} images are too large, too many or of no known type, so they "
                "are not part of this page: it shows them only while they are where they were."
            )
        if self.remote:
            notes.append(f"{self.remote:,} images are loaded from their addresses.")
        if self.left_out:
            notes.append(
                f"{self.left_out:,} images are data URIs that are too large, or too many, to be "
                "part of this page."
            )
        if self.missing:
            notes.append(f"{self.missing:,} images were not found.")
        return notes
