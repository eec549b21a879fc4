"""What all pictures have in common: matplotlib, an extra, and names as it can draw them."""

from __future__ import annotations

from typing import Any

from smnet.errors import missing_extra


def load_pyplot() -> Any:
    """``matplotlib.pyplot``, for files only.

    Raises:
        UserError: it is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise missing_extra("matplotlib", "plot") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def drawn_name(name: str, most: int = 44) -> str:
    """A name as a label: at most so many characters, and no dollar that begins a formula."""
    short = name if len(name) <= most else f"{name[: most - 1]}…"
    return short.replace("$", r"\$")
