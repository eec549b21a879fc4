"""Encode the frames of one clip as JPEG: the part of packing that runs in worker processes."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from smnet.data.clips import Clip
from smnet.data.open import open_video
from smnet.data.video.base import Frames, scaled_size
from smnet.errors import UserError


@dataclass(frozen=True, slots=True)
class PackedFacts:
    """The facts about a clip in the index.

    Attributes:
        num_frames: frames stored.
        source_frames: frames of the source.
        fps: rate of the stored frames; None if the source has none.
        duration: seconds; None if the source does not say.
        width, height: stored size, pixels.
        damage: lost or marred frames of the source, see :class:`smnet.data.video.base.Video`.
    """

    num_frames: int
    source_frames: int
    fps: float | None
    duration: float | None
    width: int
    height: int
    damage: int


@dataclass(frozen=True, slots=True)
class PackedClip:
    """A clip ready to be written: one JPEG file per frame, in order."""

    facts: PackedFacts
    jpegs: list[bytes]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Takes the place of a clip that cannot be read."""

    reason: str


def stored_frames(available: int, frames: int | None) -> list[int]:
    """Which frames of a clip are stored.

    The clip is cut into ``frames`` equal parts, and the middle frame of each part is stored:
    floor((k + 1/2) * available / frames) for k = 0, 1, ... The uniform test sampling with as many
    segments takes the same frames. All frames are stored if there are fewer, or for None.
    """
    if frames is None or frames >= available:
        return list(range(available))
    return [(2 * k + 1) * available // (2 * frames) for k in range(frames)]


def encode_clip(
    clip: Clip, short_side: int, frames: int | None, quality: int
) -> PackedClip | Unreadable:
    """Decode a clip, scale it down and encode its frames. Problems are returned, not raised.

    Args:
        clip: a video, a folder of frames, or a clip of another packed set.
        short_side: pixels. Smaller frames keep their size, and JPEG files of that size are stored
            as they are.
        frames: number of frames, see :func:`stored_frames`; None is all.
        quality: JPEG quality, 1 to 100. Colours are subsampled 4:2:0, as in video.
    """
    try:
        return _encode(clip, short_side, frames, quality)
    except UserError as error:
        return Unreadable(str(error).removeprefix(f"{clip.path}: "))
    except (OSError, MemoryError) as error:
        return Unreadable(f"{type(error).__name__}: {error}")


def _encode(clip: Clip, short_side: int, frames: int | None, quality: int) -> PackedClip:
    # The process as a whole is under a time limit.
    with open_video(clip.path, clip.template, part=clip.part, timeout=None) as video:
        available = (clip.num_frames if clip.part is None else None) or video.num_frames
        if available > video.num_frames:
            raise UserError(
                f"the annotation says {available} frames, the clip has {video.num_frames}"
            )
        wanted = stored_frames(available, frames)
        size: tuple[int, int] | None = None
        jpegs: dict[int, bytes] = {}
        for index, frame in video.each(wanted):
            scaled = scaled_size(frame.shape[1], frame.shape[0], short_side)
            if size is not None and scaled != size:
                raise UserError(f"frame {index} is of another size than those before")
            unchanged = scaled == (frame.shape[1], frame.shape[0])
            size = scaled
            jpegs[index] = (video.jpeg(index) if unchanged else None) or _jpeg(frame, size, quality)
        assert size is not None
        fps = video.fps
        facts = PackedFacts(
            num_frames=len(wanted),
            source_frames=available,
            fps=None if fps is None else fps * len(wanted) / available,
            duration=video.duration,
            width=size[0],
            height=size[1],
            damage=video.damage,
        )
    return PackedClip(facts, [jpegs[index] for index in wanted])


def _jpeg(frame: Frames, size: tuple[int, int], quality: int) -> bytes:
    image = Image.fromarray(frame)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=quality, subsampling="4:2:0")
    return encoded.getvalue()
