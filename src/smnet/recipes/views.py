"""The notation of test views. Apart from the other keys, so that predict starts without them."""

from __future__ import annotations

from smnet.errors import UserError


def parse_views(views: str) -> tuple[int, int]:
    """``"10x3"`` -> (10, 3): clips per video and crops per clip.

    Raises:
        UserError: another form, or a number of crops other than 1, 3 and 5.
    """
    clips, _, crops = views.lower().partition("x")
    if not (clips.isdecimal() and crops.isdecimal() and 1 <= int(clips) <= 100):
        raise UserError(f"views={views!r}: write clips x crops, such as 1x1, 2x3 or 10x3")
    if int(crops) not in (1, 3, 5):
        raise UserError(f"views={views!r}: crops must be 1, 3 or 5")
    return int(clips), int(crops)
