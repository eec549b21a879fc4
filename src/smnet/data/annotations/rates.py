"""The column ``fps`` of video files, which are read at their own rate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from smnet.data.annotations.times import seconds
from smnet.data.video.container import open_container, video_stream
from smnet.errors import UserError

_LOOKED_AT = 32  # files; opening every file of a large data set would take minutes
_TOLERANCE = 0.03  # 29.97 and 30 are one rate


def check_rates(rows: Sequence[tuple[str, str, str]]) -> str:
    """Check that the column describes the files and does not ask for another rate.

    Args:
        rows: (row, path, content of the column) of video files.

    Returns:
        What to tell the user.

    Raises:
        UserError: a row without a number, or a file of another rate.
    """
    step = max(len(rows) // _LOOKED_AT, 1)
    looked = 0
    for source, path, text in rows[::step]:
        stated = seconds(text)
        if not stated:
            raise UserError(f"{source}: fps {text!r} is not a positive number")
        own = _rate(path)
        if own is None:
            continue
        looked += 1
        if abs(own - stated) > _TOLERANCE * own:
            raise UserError(
                f"{source}: the column 'fps' says {stated:g}, and {path} has {own:g} frames per"
                " second. Files are read at their own rate: convert the files, or delete the column"
                " if it does not matter"
            )
    return f"fps agrees with the files ({looked} looked at)"


def _rate(path: str) -> float | None:
    """Frames per second by the header; None if the file does not say."""
    if not Path(path).is_file():
        return None
    try:
        with open_container(path) as container:
            rate = video_stream(path, container).average_rate
    except (UserError, OSError):
        return None
    return float(rate) if rate else None
