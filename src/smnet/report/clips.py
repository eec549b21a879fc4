"""Short copies of clips, small enough to be embedded in a page."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
from PIL import Image

from smnet.data.clips import Clip
from smnet.data.open import open_video
from smnet.errors import UserError
from smnet.files import WRITTEN_BY

FRAMES = 24
"""Frames of a copy, evenly spaced over the clip."""
RATE = 8
"""Frames per second of a copy."""
SIDE = 176
"""Longer side of a copy, pixels."""


def copy_of(clip: Clip | str) -> bytes | None:
    """A clip as a short mp4 (H.264) of some 10 to 60 kB; None if it cannot be read."""
    clip = Clip(clip, -1, clip) if isinstance(clip, str) else clip
    try:
        with open_video(clip.path, template=clip.template, part=clip.part) as video:
            count = min(FRAMES, video.num_frames)
            chosen = np.linspace(0, video.num_frames - 1, count).round().astype(int)
            frames = [_small(frame) for _, frame in video.each(np.unique(chosen).tolist())]
    except UserError:
        return None
    return encode(frames)


def _small(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    scale = min(SIDE / max(height, width), 1.0)
    size = [max(round(side * scale) // 2 * 2, 16) for side in (width, height)]
    return np.asarray(Image.fromarray(frame).resize((size[0], size[1])))


def encode(frames: list[np.ndarray], rate: int = RATE) -> bytes:
    """Frames (H, W, 3) uint8 of even sides as an mp4."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        container.metadata["comment"] = WRITTEN_BY
        stream = container.add_stream(
            "libx264", rate=Fraction(rate), options={"crf": "30", "threads": "1"}
        )
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return file.getvalue()
