"""What every picture shares: matplotlib, names of files, labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from smnet.errors import missing_extra
from smnet.files import WRITTEN_BY, atomic_path, check_suffix

PICTURES = (".png", ".svg", ".pdf")


def load_pyplot() -> Any:
    """``matplotlib.pyplot`` without a display.

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


def check_picture(path: str | os.PathLike[str]) -> None:
    """Refuse the name of a file that is no picture, before any work is done.

    Raises:
        UserError: the suffix is none of :data:`PICTURES`.
    """
    check_suffix(path, PICTURES, "a picture")


def save_picture(path: str | os.PathLike[str], figure: Any, dpi: int) -> None:
    """Write a figure and close it.

    Raises:
        UserError: the file cannot be written.
    """
    from matplotlib import pyplot

    key = "Software" if Path(path).suffix.lower() == ".png" else "Creator"
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi, metadata={key: WRITTEN_BY})
    pyplot.close(figure)


def drawn_name(name: str, most: int = 44) -> str:
    """A name as a label: at most ``most`` characters, dollars escaped (they start a formula)."""
    short = name if len(name) <= most else f"{name[: most - 1]}…"
    return short.replace("$", r"\$")
