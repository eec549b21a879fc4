"""The look and the common parts of pages that are programs."""

from __future__ import annotations

from importlib.resources import files

from smnet.report.kit import STYLE


def app_script() -> str:
    """The module ``app.js``, which such pages import."""
    return (files("smnet.report") / "app" / "app.js").read_text(encoding="utf-8")


def app_style() -> str:
    """The style of such pages: that of the reports, and controls."""
    return STYLE + (files("smnet.report") / "app" / "app.css").read_text(encoding="utf-8")
