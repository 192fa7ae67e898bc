"""The code of the pages in docs/adapters, which needs the tools that it is for."""

import re

from tests.support.checkout import ROOT


def page_code(name, language="py"):
    """The blocks of code in the page of an adapter, those that begin with ```py."""
    page = (ROOT / "docs" / "adapters" / f"{name}.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.M | re.S)
