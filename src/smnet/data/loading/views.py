"""The views of a video: its frames are decoded, scaled and cropped in groups of bounded size.

NumPy and Pillow only, for machines without PyTorch. Frames are scaled by Pillow here and by PyTorch
in :mod:`smnet.data.loading.dataset`, see :attr:`ViewPlan.scaler`. The geometry is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from smnet.data.clips import Part
from smnet.data.loading.crops import protocol_crops, random_box
from smnet.data.open import open_video
from smnet.data.sampling.rate import sample_at_rate
from smnet.data.sampling.rules import Mode, sample
from smnet.data.video.base import Video
from smnet.data.video.memory import FrameArray
from smnet.errors import UserError

Scaler = Literal["torch", "pillow"]
Frame = NDArray[np.uint8]
Scale = Callable[[Sequence[Frame], int, int], Frame]
"""(N frames (H, W, 3), height, width) -> (N, height, width, 3), bilinear with antialiasing."""

_MAX_SCALED = 1 << 24  # pixels of a scaled frame; a 4K frame at short side 256 has 0.1 million
_MAX_BYTES = 1 << 32  # of all views of one clip
_GROUP_BYTES = 1 << 25  # of the frames that are scaled in one call, their copy and the result


@dataclass(frozen=True)
class ViewPlan:
    """How a video becomes the views that a model sees.

    Attributes:
        sampling, segments, frames_per_segment: see :func:`smnet.data.sampling.rules.sample`.
        rate: frames per second of a clip, in place of the sampling rule; see
            :func:`smnet.data.sampling.rate.sample_at_rate`. None follows the rule.
        size: side of the crop in training, pixels.
        short_side: short side of the scaled frame in tests, pixels.
        train: one random view; otherwise ``clips`` x ``crops`` views of the test protocol.
        validation: sample as in the validation of the rule, if that differs from its test; not
            with ``train``.
        crop: random crop of training: "multiscale", "resized" or "centre".
        scale_first: scale larger frames to ``short_side`` before the random crop of training.
        mirror: the label after mirroring, for each label; None never mirrors.
        clips, crops: temporal and spatial views of a test.
        decoder: of video files, see :func:`smnet.data.open.open_video`.
        scaler: what scales the frames of a test: ``"torch"`` for checkpoints, ``"pillow"`` for
            exported files, which run without PyTorch. Both are bilinear with antialiasing and agree
            to within one grey level; torch takes a fifth of the time.

    Raises:
        UserError: the views of one clip would take more than 4 GiB.
    """

    sampling: str = "uniform"
    segments: int = 8
    frames_per_segment: int = 1
    rate: float | None = None
    size: int = 224
    short_side: int = 256
    train: bool = False
    validation: bool = False
    crop: str = "multiscale"
    scale_first: bool = False
    mirror: tuple[int, ...] | None = None
    clips: int = 1
    crops: int = 1
    decoder: str = "pyav"
    scaler: Scaler = "torch"

    def __post_init__(self) -> None:
        if (size := int(np.prod(self.shape, dtype=float))) > _MAX_BYTES:
            views, frames, _, side, _ = self.shape
            raise UserError(
                f"{views} views of {frames} frames of {side}x{side} pixels take"
                f" {size / 2**30:.0f} GiB per clip; the limit is {_MAX_BYTES >> 30} GiB: reduce"
                " views, segments or size"
            )

    @property
    def views(self) -> int:
        """Views of a video: V = clips x crops."""
        return 1 if self.train else self.clips * self.crops

    @property
    def side(self) -> int:
        """Side of the square views, pixels; three crops of a test are full squares."""
        return self.short_side if self.crops == 3 and not self.train else self.size

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Shape of the views of one clip: (V, T*L, 3, side, side)."""
        return self.views, self.segments * self.frames_per_segment, 3, self.side, self.side

    @property
    def frames_by(self) -> str:
        """What chooses the frames, in words: the sampling rule or the rate."""
        return self.sampling if self.rate is None else f"at {self.rate:g} frames/s"

    @property
    def mode(self) -> Mode:
        """Mode of the sampling rule."""
        if self.train:
            return "train"
        return "val" if self.validation else "test"


@dataclass
class Damage:
    """What was lost when a video was read.

    Attributes:
        count: packets that did not decode, frames that were lost or marred, and a missing part of
            the file; see :attr:`smnet.data.video.base.Video.damage`.
        missing: the missing part of the file, in words; "" if none is known.
    """

    count: int = 0
    missing: str = ""

    def __str__(self) -> str:
        if self.missing:
            return f"damaged ({self.missing})"
        return f"damaged ({self.count} packets and frames lost or marred)"


class Cropper:
    """Cuts the crops of a plan out of the frames of one video; all frames are cut alike.

    Args:
        plan: the plan.
        height, width: size of the frames, pixels.
        scale: scales frames.
        rng: randomness of a training view.
        mirror: whether to mirror the views (training only).

    Attributes:
        group: number of frames to crop in one call: many small ones, single ones of 4K.

    Raises:
        UserError: the frame is so narrow that the scaled frame would be huge.
    """

    def __init__(
        self,
        plan: ViewPlan,
        height: int,
        width: int,
        scale: Scale,
        rng: np.random.Generator | None = None,
        mirror: bool = False,
    ) -> None:
        self._plan, self._scale, self._mirror = plan, scale, mirror
        if plan.train:
            if rng is None:
                raise ValueError("a training view needs an rng")
            self._reduced = reduced_size(height, width, plan) if plan.scale_first else None
            box_from = self._reduced or (height, width)
            self._box = random_box(*box_from, plan.size, plan.crop, rng)
            self.group = _group(height * width, plan.size**2)
            return
        self._crops = protocol_crops(height, width, plan.size, plan.short_side, plan.crops)
        if self._crops.height * self._crops.width > _MAX_SCALED:
            raise UserError(
                f"frames of {width}x{height} pixels are too narrow: scaled to a short side of"
                f" {plan.short_side} they would have {self._crops.width}x{self._crops.height}"
            )
        self.group = _group(height * width, self._crops.height * self._crops.width)

    def __call__(self, frames: Sequence[Frame]) -> Frame:
        """N frames (H, W, 3) -> (N, crops, side, side, 3)."""
        if self._plan.train:
            if self._reduced is not None:
                frames = list(self._scale(frames, *self._reduced))
            box = self._box
            rows, columns = (
                slice(box.top, box.top + box.height),
                slice(box.left, box.left + box.width),
            )
            cuts = [frame[rows, columns] for frame in frames]
            views = self._scale(cuts, self._plan.size, self._plan.size)
            return (views[:, :, ::-1] if self._mirror else views)[:, None]
        side = self._crops.side
        scaled = self._scale(frames, self._crops.height, self._crops.width)
        crops = [scaled[:, y : y + side, x : x + side] for y, x in self._crops.places]
        return crops[0][:, None] if len(crops) == 1 else np.stack(crops, axis=1)


def reduced_size(height: int, width: int, plan: ViewPlan) -> tuple[int, int]:
    """Height and width of frames scaled to the short side of a plan, as its tests scale them.

    Smaller frames keep their size.
    """
    if min(height, width) <= plan.short_side:
        return height, width
    crops = protocol_crops(height, width, plan.size, plan.short_side, 1)
    return crops.height, crops.width


def scale_with_pillow(frames: Sequence[Frame], height: int, width: int) -> Frame:
    """A :data:`Scale`."""
    if frames[0].shape[:2] == (height, width):
        return np.stack(frames)
    scaled = np.empty((len(frames), height, width, 3), np.uint8)
    for place, frame in zip(scaled, frames, strict=True):
        picture = Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR)
        place[:] = np.asarray(picture)
    return scaled


def read_views(
    path: str | NDArray[np.uint8] | FrameArray,
    plan: ViewPlan,
    scale: Scale = scale_with_pillow,
    *,
    rng: np.random.Generator | None = None,
    mirror: bool = False,
    template: str | None = None,
    num_frames: int | None = None,
    part: Part | None = None,
    damage: Damage | None = None,
) -> NDArray[np.uint8]:
    """Decode the views of one video.

    Args:
        path: a video file, a folder of frames, or frames (T, H, W, 3).
        plan: the plan.
        scale: scales frames.
        rng: randomness of a training view.
        mirror: whether to mirror the views (training only).
        template: file names of the frames in a folder; None finds them by looking.
        num_frames: number of frames in the annotation; later frames are not used.
        part: the part of the video to read instead of all of it.
        damage: takes what was lost.

    Returns:
        (V, T*L, 3, side, side) uint8; view ``clip * crops + crop``.

    Raises:
        UserError: the video cannot be read, has fewer frames than its annotation says, or does not
            fit into memory.
    """
    if plan.train and rng is None:
        raise ValueError("a training view needs an rng")
    try:
        with open_video(path, template=template, part=part, decoder=plan.decoder) as video:
            available = (num_frames if part is None else None) or video.num_frames
            if available > video.num_frames:
                raise UserError(
                    f"{video.path}: the annotation says {available} frames,"
                    f" it has {video.num_frames}"
                )
            indices = _indices(video, available, plan, rng)
            views = np.empty(plan.shape, dtype=np.uint8)
            by_clip = views.reshape(len(indices), -1, *plan.shape[1:])  # (clips, crops, T*L, ...)
            stream = video.each(np.unique(indices).tolist())
            first = next(stream)
            cropper = _cropper(video.path, plan, first[1], scale, rng, mirror)
            stream = chain([first], stream)
            del first
            while group := list(islice(stream, cropper.group)):
                numbers, frames = zip(*group, strict=True)
                crops = np.moveaxis(cropper(frames), -1, 2)  # (N, crops, 3, side, side)
                for number, crop in zip(numbers, crops, strict=True):
                    for clip, place in np.argwhere(indices == number):
                        by_clip[clip, :, place] = crop
            if damage is not None:
                damage.count += video.damage
                damage.missing = damage.missing or video.missing
    except MemoryError as error:
        name = path if isinstance(path, str) else "the given frames"
        raise UserError(f"{name}: not enough memory to read it; use fewer workers") from error
    return views


def _indices(
    video: Video, available: int, plan: ViewPlan, rng: np.random.Generator | None
) -> NDArray[np.int64]:
    """The frames of the clips of a video, (clips, T*L)."""
    clips = 1 if plan.train else plan.clips
    if plan.rate is not None:
        times = _times(video, plan.rate)[:available]
        return sample_at_rate(times, plan.segments, plan.rate, clips, plan.frames_per_segment, rng)
    return sample(
        available,
        plan.segments,
        mode=plan.mode,
        strategy=plan.sampling,
        clips=clips,
        frames_per_segment=plan.frames_per_segment,
        # Some published tests draw at random; a fixed seed makes them repeatable.
        rng=rng or np.random.default_rng(0),
    )


def _times(video: Video, rate: float) -> NDArray[np.float64]:
    """Presentation times of the frames, seconds. Frames in memory that have no time of their own
    are at the rate already."""
    if (times := video.times) is not None:
        return np.array(times)
    fps = video.fps or (rate if isinstance(video, FrameArray) else None)
    if not fps:
        raise UserError(
            f"{video.path}: its frames have no times, so they cannot be taken at {rate:g} frames"
            " per second; use video files, or a model that was trained without rate="
        )
    return np.arange(video.num_frames) / fps


def _group(source: int, scaled: int) -> int:
    """Frames per group, by the pixels of a frame before and after scaling."""
    return max(_GROUP_BYTES // (3 * (2 * source + scaled)), 1)


def _cropper(
    path: str,
    plan: ViewPlan,
    frame: Frame,
    scale: Scale,
    rng: np.random.Generator | None,
    mirror: bool,
) -> Cropper:
    try:
        return Cropper(plan, frame.shape[0], frame.shape[1], scale, rng, mirror)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
