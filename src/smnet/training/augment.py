"""Augmentation of batches on the device: colour jitter, RandAugment, random erasing.

All frames of a clip get the same random values, and histograms are computed over the clip, so that
augmentation does not look like motion. The image operations are those of kornia (extra
``augment``). Crops, mirroring and mixing of clips are in ``smnet.data.loading.transforms``.
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
    """The augmentation of the recipe keys ``jitter``, ``randaugment`` and ``erase``.

    Raises:
        UserError: one of them is set and kornia is not installed.
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
            generator: a CPU generator of the run. kornia draws from PyTorch's global generator,
                whose state is saved with the run too.

        Returns:
            (B, T, 3, h, w) float32, normalised; erased regions are 0, the mean colour.
        """
        if self._jitter is None and self._policy is None:
            done = normalise(clips, mean, std)
        else:
            rgb = clips.float().div_(255)
            if self._jitter is not None:
                rgb = self._jitter(rgb)
            if self._policy is not None:
                rgb = self._policy(rgb, generator)
            done = standardise(rgb, mean, std)
        return done if self._erase is None else self._erase(done)


class RandAugment:
    """RandAugment (Cubuk et al., 2020) for clips.

    Each clip gets ``number`` operations, drawn with replacement from the 14 of the paper, at
    ``magnitude`` of 10. At magnitude 10: rotation by 30 degrees, shear by 0.3, translation by 0.45
    of the side, factors of 1 +- 0.9 for colour, contrast, brightness and sharpness, 4 bits per
    channel, solarisation of all pixels. The sign of an operation is drawn per clip.
    """

    def __init__(self, magnitude: float, number: int) -> None:
        self.level, self.number = magnitude / 10, number
        self.operations = _operations()

    def __call__(self, clips: Tensor, generator: torch.Generator) -> Tensor:
        """(B, T, 3, h, w) in [0, 1] -> the same shape; ``clips`` is changed in place."""
        for _ in range(self.number):
            chosen = torch.randint(RANDAUGMENT_OPERATIONS, (len(clips),), generator=generator)
            signs = 2 * torch.randint(2, (len(clips),), generator=generator) - 1
            # Clips with the same operation are processed together.
            for number in sorted(set(chosen.tolist())):
                members = torch.nonzero(chosen == number)[:, 0]
                strengths = (self.level * signs[members]).to(clips.device, clips.dtype)
                where = members.to(clips.device)
                clips[where] = self.operations[number](clips[where], strengths).clamp_(0, 1)
        return clips


def _operations() -> list[Operation]:
    """The 14 operations in the order of the paper."""
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
    """Apply an operation on images (N, 3, h, w) to every frame of clips."""

    def on_clips(clips: Tensor, strength: Tensor) -> Tensor:
        count = clips.shape[1]
        frames = operation(clips.flatten(0, 1), strength.repeat_interleave(count))
        return frames.unflatten(0, (-1, count))

    return on_clips


def _of_clip(operation: Operation) -> Operation:
    """Apply a colour operation to whole clips, as images (k, 3, T*h, w) of all frames."""

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
