"""Reports, pictures and the demo."""

from typing import TYPE_CHECKING

from fastal.base.lazy import import_on_first_use

if TYPE_CHECKING:
    from fastal.report.page.write_report import write_report

__all__ = ["write_report"]

import_on_first_use(__name__, {"fastal.report.page.write_report": ["write_report"]})
