"""Augmentation of whole batches on the device: colour jitter, RandAugment, random erasing.

Whatever is drawn for a clip is the same on all its frames, and histograms are those of the clip,
so that nothing flickers that did not move. The operations on pictures are kornia's (the extra
``augment``). Crops, mirroring and the mixing of clips are in ``smnet.data.loading.transforms``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from smnet.data.loading.transforms import normalise, standardise
from smnet.errors import missing_extra
from smnet.recipes.keys import RANDAUGMENT_OPERATIONS, Recipe, parse_randaugment

Operation = Callable[[Tensor, Tensor], Tensor]
"""(clips (k, T, 3, h, w) in [0, 1], strengths (k,) in [-1, 1]) -> clips of the same shape."""


class Augmentation:
    """What a recipe says of ``jitter``, ``randaugment`` and ``erase``, ready to be called.

    Raises:
        UserError: one of them is on, and kornia is not installed.
    """

    def __init__(self, recipe: Recipe) -> None:
        policy = parse_randaugment(recipe.randaugment)
        words = []
        self._jitter: Callable[[Tensor], Tensor] | None = None
        self._erase: Callable[[Tensor], Tensor] | None = None
        self._policy: RandAugment | None = None
        if recipe.jitter or policy or recipe.erase:
            _require_kornia()
        if recipe.jitter:
            from kornia.augmentation import ColorJitter, VideoSequential

            s = recipe.jitter
            self._jitter = VideoSequential(ColorJitter(s, s, s, s / 4), data_format="BTCHW")
            words.append(f"jitter {s:g}")
        if policy:
            self._policy = RandAugment(*policy)
            words.append(f"randaugment {recipe.randaugment}")
        if recipe.erase:
            from kornia.augmentation import RandomErasing, VideoSequential

            self._erase = VideoSequential(RandomErasing(p=recipe.erase), data_format="BTCHW")
            words.append(f"erase {recipe.erase:g}")
        self.note = f"augmentation: {', '.join(words)}" if words else ""

    @torch.no_grad()
    def __call__(
        self,
        clips: Tensor,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        generator: torch.Generator,
    ) -> Tensor:
        """Augment and normalise a batch.

        Args:
            clips: (B, T, 3, h, w) uint8, on any device.
            mean, std: of the normalisation, for RGB in [0, 1].
            generator: a CPU generator of the run. (kornia's own draws are made from PyTorch's
                global one, whose state the run keeps as well.)

        Returns:
            (B, T, 3, h, w) float32; what is erased has the mean colour, 0.
        """
        if self._jitter is None and self._policy is None:
            done = normalise(clips, mean, std)
        else:
            shown = clips.float().div_(255)
            if self._jitter is not None:
                shown = self._jitter(shown)
            if self._policy is not None:
                shown = self._policy(shown, generator)
            done = standardise(shown, mean, std)
        return done if self._erase is None else self._erase(done)


class RandAugment:
    """RandAugment (Cubuk et al., 2020) for clips: ``number`` operations a clip, drawn uniformly and
    with replacement out of the paper's 14, all at ``magnitude`` out of 10.

    At magnitude 10: rotation by 30 degrees, shear by 0.3, translation by 0.45 of the side, factors
    1 +- 0.9 of colour, contrast, brightness and sharpness, 4 bits a channel, solarisation of
    everything. The sign of what has two sides is drawn for each clip.
    """

    def __init__(self, magnitude: float, number: int) -> None:
        self.level, self.number = magnitude / 10, number
        self.operations = _operations()

    def __call__(self, clips: Tensor, generator: torch.Generator) -> Tensor:
        """(B, T, 3, h, w) in [0, 1] -> the same; ``clips`` is changed in place."""
        for _ in range(self.number):
            chosen = torch.randint(RANDAUGMENT_OPERATIONS, (len(clips),), generator=generator)
            signs = 2 * torch.randint(2, (len(clips),), generator=generator) - 1
            # Clips that drew the same operation go through it together.
            for number in sorted(set(chosen.tolist())):
                of_it = torch.nonzero(chosen == number)[:, 0]
                strengths = (self.level * signs[of_it]).to(clips.device, clips.dtype)
                where = of_it.to(clips.device)
                clips[where] = self.operations[number](clips[where], strengths).clamp_(0, 1)
        return clips


def _operations() -> list[Operation]:
    """The 14 operations, in the order of the paper."""
    from kornia import enhance
    from kornia.geometry import transform

    def factor(strength: Tensor) -> Tensor:
        return 1 + 0.9 * strength

    def along(strength: Tensor, other: Tensor) -> Tensor:
        return torch.stack([strength, other], dim=1)

    def shift(frames: Tensor, strength: Tensor, x: bool) -> Tensor:
        pixels = 0.45 * strength * frames.shape[-1 if x else -2]
        still = torch.zeros_like(pixels)
        return transform.translate(frames, along(pixels, still) if x else along(still, pixels))

    def shear(frames: Tensor, strength: Tensor, x: bool) -> Tensor:
        still = torch.zeros_like(strength)
        slant = 0.3 * strength
        return transform.shear(frames, along(slant, still) if x else along(still, slant))

    return [
        lambda clips, s: clips,
        _of_clip(lambda x, s: enhance.normalize_min_max(x)),
        _of_clip(lambda x, s: enhance.equalize(x)),
        _of_frames(lambda x, s: transform.rotate(x, 30 * s)),
        _of_clip(lambda x, s: enhance.solarize(x, 1 - s.abs())),
        _of_clip(lambda x, s: enhance.adjust_saturation_with_gray_subtraction(x, factor(s))),
        _of_clip(lambda x, s: enhance.posterize(x, 8 - (4 * s.abs()).round().int())),
        _of_clip(lambda x, s: enhance.adjust_contrast_with_mean_subtraction(x, factor(s))),
        _of_clip(lambda x, s: enhance.adjust_brightness_accumulative(x, factor(s))),
        _of_frames(lambda x, s: enhance.sharpness(x, factor(s))),
        _of_frames(lambda x, s: shear(x, s, x=True)),
        _of_frames(lambda x, s: shear(x, s, x=False)),
        _of_frames(lambda x, s: shift(x, s, x=True)),
        _of_frames(lambda x, s: shift(x, s, x=False)),
    ]


def _of_frames(operation: Operation) -> Operation:
    """Make an operation on pictures (N, 3, h, w) one on every frame of clips."""

    def on_clips(clips: Tensor, strength: Tensor) -> Tensor:
        count = clips.shape[1]
        frames = operation(clips.flatten(0, 1), strength.repeat_interleave(count))
        return frames.unflatten(0, (-1, count))

    return on_clips


def _of_clip(operation: Operation) -> Operation:
    """Make an operation on colours, which sees each picture as a whole, one that sees each clip as
    a whole: its frames stand above one another in one picture (k, 3, T*h, w)."""

    def on_clips(clips: Tensor, strength: Tensor) -> Tensor:
        picture = clips.transpose(1, 2).flatten(2, 3)
        done = operation(picture, strength)
        return done.unflatten(2, (clips.shape[1], -1)).transpose(1, 2)

    return on_clips


def _require_kornia() -> None:
    try:
        import kornia.augmentation  # noqa: F401
    except ImportError:
        raise missing_extra("kornia", "augment") from None
