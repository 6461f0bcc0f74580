"""The reporting checklists of TRIPOD+AI and CLAIM, answered as far as the run can answer them."""

from __future__ import annotations

from hilum.reporting import checklist_items
from hilum.reporting.context import Context

TITLE, ORDER = "Reporting checklist", 80


def section(context: Context) -> checklist_items.Checklist | None:
    """Answer every item; None where nothing was trained."""
    return None if context.untrained else checklist_items.answered(context)
