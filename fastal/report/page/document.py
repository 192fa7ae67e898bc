"""Puts the parts of a page together: one file that loads nothing but images."""

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from string import Template
from typing import Any

from fastal.base.text import as_json
from fastal.report.page.svg import plain_text


def document(title: str, sections: Mapping[str, str], table: Mapping[str, Any] | None) -> bytes:
    """The page as HTML.

    Args:
        title: its heading.
        sections: HTML by heading.
        table: the data of the table of picks; None: there is none.
    """
    room = files("fastal.report.page")
    script = room.joinpath("report.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    body = "".join(
        f"<section><h2>{plain_text(heading)}</h2>{html}</section>"
        for heading, html in sections.items()
    )
    page = Template(room.joinpath("report.html").read_text("utf-8")).substitute(
        title=plain_text(title),
        style=room.joinpath("report.css").read_text("utf-8"),
        body=body,
        # "<" could end the element or begin a comment.
        data=as_json(table).replace("<", "\\u003c"),
        script=script,
        digest=digest,
    )
    return page.encode()
