"""What the file names of published checkpoints say of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class NameHints:
    """Facts from the file names of TSM and its successors, and of MMAction2.

    ``TSM_{data}_{modality}_{arch}_shift{div}_{place}_{consensus}_segment{T}_e{E}[_dense][_nl]``,
    as the name of the file or its folder; ``..._[dense-]1x1x{T}-...`` in MMAction2, and
    ``..._{T}x{interval}x1-...`` for its 3D networks.
    """

    text: str = ""
    segments: int | None = None
    shift_div: int | None = None
    dense: bool = False
    pooled: bool = False
    something_v2: bool = False
    window: int | None = None

    @classmethod
    def of(cls, path: Path) -> NameHints:
        """Hints from the file's name, or from its folder's where only that has the segments."""
        pattern = (
            r"_segment(\d{1,3})(?=[_.]|$)|[-_]1x1x(\d{1,3})(?=[-_.]|$)"
            r"|[-_](\d{1,3})x(\d{1,3})x1(?=[-_.]|$)"
        )
        texts = (path.name, path.absolute().parent.name)
        text = next((text for text in texts if re.search(pattern, text)), path.name)
        count, shift = re.search(pattern, text), re.search(r"_shift(\d{1,3})_", text)
        return cls(
            text,
            int(count[1] or count[2] or count[3]) if count else None,
            int(shift[1]) if shift else None,
            re.search(r"[-_]dense(?=[-_.]|$)", text) is not None,
            "_tpool_" in text,
            re.search(r"(?i)something-?(?:something-?)?v2|sthv2|ssv2", text) is not None,
            int(count[3]) * int(count[4]) if count and count[3] else None,
        )
