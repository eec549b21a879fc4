"""The views of a video: which frames are read, and where the crops of the test protocols lie.

NumPy and Pillow only, for machines without PyTorch. Frames are scaled by Pillow here and by PyTorch
in :mod:`smnet.data.loading.transforms`, see :attr:`ViewPlan.scaler`. The geometry is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from smnet.data.open import open_video
from smnet.data.sampling.rules import Mode, sample
from smnet.errors import UserError

Scaler = Literal["torch", "pillow"]


@dataclass(frozen=True)
class ViewPlan:
    """How a video becomes the views a model sees.

    Attributes:
        sampling, segments, frames_per_segment: see :func:`smnet.data.sampling.rules.sample`.
        size, short_side: see :mod:`smnet.data.loading.transforms`, pixels.
        train: one random view; otherwise ``clips`` x ``crops`` views of the test protocol.
        validation: frames as the validation of the sampling rule takes them, where that differs
            from its test; not with ``train``.
        crop: the random crop of training.
        mirror: the label after a mirror, for each label; None never mirrors.
        decoder: of video files, see :func:`smnet.data.open.open_video`.
        scaler: what scales the frames of a test: ``"torch"`` for checkpoints, ``"pillow"`` for
            exported files, which run without PyTorch. Both are bilinear with antialiasing and agree
            to within one grey level; torch takes a fifth of the time.
    """

    sampling: str = "uniform"
    segments: int = 8
    frames_per_segment: int = 1
    size: int = 224
    short_side: int = 256
    train: bool = False
    validation: bool = False
    crop: str = "multiscale"
    mirror: tuple[int, ...] | None = None
    clips: int = 1
    crops: int = 1
    decoder: str = "pyav"
    scaler: Scaler = "torch"

    @property
    def views(self) -> int:
        """Views a video gives: V = clips x crops."""
        return 1 if self.train else self.clips * self.crops

    @property
    def side(self) -> int:
        """Side of the crops of a test, pixels; three crops are full squares."""
        return self.short_side if self.crops == 3 else self.size

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Shape of the views of one clip: (V, T*L, 3, height, width)."""
        side = self.size if self.train else self.side
        return self.views, self.segments * self.frames_per_segment, 3, side, side

    @property
    def mode(self) -> Mode:
        """What the sampling rule is asked for."""
        if self.train:
            return "train"
        return "val" if self.validation else "test"


@dataclass(frozen=True, slots=True)
class Crops:
    """Where the crops of a test protocol lie in the scaled frame, pixels.

    Attributes:
        height, width: what the frame is scaled to.
        side: of the square crops.
        places: (top, left) of each.
    """

    height: int
    width: int
    side: int
    places: tuple[tuple[int, int], ...]


def protocol_crops(height: int, width: int, size: int, short_side: int, crops: int) -> Crops:
    """The crops of the test protocols in a frame of ``height`` x ``width`` pixels.

    Args:
        height, width: of the frame as decoded.
        size: side of the trained crop, pixels.
        short_side: what the frame's short side is scaled to, pixels.
        crops: 1: the centre ``size`` x ``size``. 3: full ``short_side`` squares at both ends and
            the middle of the long side (fully convolutional testing). 5: the corners and the
            centre, ``size`` x ``size``.
    """
    scale = short_side / min(height, width)
    height, width = (
        (short_side, max(round(width * scale), short_side))
        if height <= width
        else (max(round(height * scale), short_side), short_side)
    )
    side = short_side if crops == 3 else size
    down, right = height - side, width - side
    middle = (down // 2, right // 2)
    if crops == 1:
        return Crops(height, width, side, (middle,))
    if crops == 3:
        return Crops(height, width, side, ((0, 0), middle, (down, right)))
    corners = ((0, 0), (0, right), (down, 0), (down, right))
    return Crops(height, width, side, (*corners, middle))


@dataclass
class Damage:
    """What reading a video lost.

    Attributes:
        count: packets that did not decode and frames that were lost or marred, of those that were
            tried; see :attr:`smnet.data.video.base.Video.damage`.
    """

    count: int = 0

    def __str__(self) -> str:
        return f"damaged ({self.count} packets and frames lost or marred)"


def read_frames(
    path: str | NDArray[np.uint8],
    plan: ViewPlan,
    rng: np.random.Generator | None = None,
    template: str | None = None,
    num_frames: int | None = None,
    damage: Damage | None = None,
) -> NDArray[np.uint8]:
    """Decode the frames that a plan asks for; see :func:`smnet.data.loading.dataset.read_views`.

    Returns:
        (clips * T*L, H, W, 3) uint8 RGB, time fastest.
    """
    with open_video(path, template=template, decoder=plan.decoder) as video:
        available = video.num_frames
        if num_frames is not None and num_frames > available:
            raise UserError(f"{path}: the annotation says {num_frames} frames, it has {available}")
        indices = sample(
            num_frames or available,
            plan.segments,
            mode=plan.mode,
            strategy=plan.sampling,
            clips=1 if plan.train else plan.clips,
            frames_per_segment=plan.frames_per_segment,
            # Some published tests draw at random; without a source they would not repeat.
            rng=rng or np.random.default_rng(0),
        )
        frames: NDArray[np.uint8] = video.read(indices.ravel().tolist())
        if damage is not None:
            damage.count += video.damage
    return frames


def read_test_views(
    path: str | NDArray[np.uint8], plan: ViewPlan, damage: Damage | None = None
) -> NDArray[np.uint8]:
    """Decode the test views of one video, scaled by Pillow.

    Args:
        path: a video file, a folder of frames, or frames (T, H, W, 3).
        plan: how; not one for training.
        damage: takes what was lost on the way.

    Returns:
        (V, T*L, 3, s, s) uint8, view ``clip * crops + crop``.

    Raises:
        UserError: the video cannot be read.
    """
    if plan.train:
        raise ValueError("a training view is random: see smnet.data.loading.dataset.read_views")
    return pillow_views(read_frames(path, plan, damage=damage), plan)


def pillow_views(frames: NDArray[np.uint8], plan: ViewPlan) -> NDArray[np.uint8]:
    """The test views of decoded frames (clips*T*L, H, W, 3); see :func:`read_test_views`."""
    height, width = frames.shape[1:3]
    where = protocol_crops(height, width, plan.size, plan.short_side, plan.crops)
    scaled = np.stack([_scale(frame, where.height, where.width) for frame in frames])
    side = where.side
    views = np.stack([scaled[:, y : y + side, x : x + side] for y, x in where.places])
    views = views.reshape(plan.crops, plan.clips, -1, side, side, 3).swapaxes(0, 1)
    flat = views.reshape(plan.views, -1, side, side, 3)  # (V, T*L, s, s, 3)
    return np.ascontiguousarray(np.moveaxis(flat, -1, 2))


def _scale(frame: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Bilinear with antialiasing, (H, W, 3) -> (height, width, 3)."""
    if frame.shape[:2] == (height, width):
        return frame
    picture = Image.fromarray(frame)
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
