"""What every picture shares: matplotlib, names of files, labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from smnet.errors import missing_extra
from smnet.files import WRITTEN_BY, atomic_path, check_suffix

PICTURES = (".png", ".svg", ".pdf")


def load_pyplot() -> Any:
    """``matplotlib.pyplot`` without a display; a ``UserError`` where it is not installed."""
    try:
        import matplotlib
    except ImportError:
        raise missing_extra("matplotlib", "plot") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def check_picture(path: str | os.PathLike[str]) -> None:
    """Refuse the name of a file that is no picture, before any work is done."""
    check_suffix(path, PICTURES, "a picture")


def save_picture(path: str | os.PathLike[str], figure: Any, dpi: int) -> None:
    """Write a figure and close it."""
    from matplotlib import pyplot

    key = "Software" if Path(path).suffix.lower() == ".png" else "Creator"
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi, metadata={key: WRITTEN_BY})
    pyplot.close(figure)


def draw_accuracy(
    axes: Any, number: int, cost: float, share: float, half: float, label: str | None
) -> None:
    """Draw the accuracy of model ``number`` over a cost, with half its interval; all in [0, 1]."""
    down, up = min(half, share), min(half, 1 - share)
    axes.errorbar(
        cost,
        100 * share,
        yerr=[[100 * down], [100 * up]] if half else None,
        fmt="osD^vP*X"[number % 8],
        color=f"C{number % 10}",
        capsize=3,
        label=drawn_name(label) if label else None,
    )


def drawn_name(name: str, most: int = 44) -> str:
    """A name as a label: at most ``most`` characters, dollars escaped (they start a formula)."""
    short = name if len(name) <= most else f"{name[: most - 1]}…"
    return short.replace("$", r"\$")
