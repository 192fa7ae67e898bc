"""What the row numbers of a pool rest on."""

import hashlib

from fastal.base.text import as_json
from fastal.sources import Source


def layout_of(source: Source) -> str | None:
    """The number of rows, and of files a digest of their names and numbers of rows.

    Two pools have the same layout if a row number means the same place in both. What the files hold
    does not matter, nor when they were written: machines may have copies.

    Returns:
        None if the number of rows is known only after all of them are read.
    """
    if source.n_rows is None:
        return None
    readers = getattr(source, "files", ())
    if not readers:
        return f"{source.n_rows:,} rows"
    named = as_json([[str(reader.file), reader.n_rows] for reader in readers])
    digest = hashlib.sha256(named.encode()).hexdigest()[:16]
    return f"{source.n_rows:,} rows in {len(readers):,} files (digest {digest})"
