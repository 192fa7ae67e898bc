"""The code of pages that needs the tools that it is for."""

import re

from tests.support.checkout import ROOT


def page_code(name, language="py", folder="adapters"):
    """The blocks of code in a page of a folder in docs, those that begin with ```py."""
    page = (ROOT / "docs" / folder / f"{name}.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.M | re.S)
