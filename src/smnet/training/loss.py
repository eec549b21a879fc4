"""The loss of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from smnet.recipes.recipe import Recipe


class Loss:
    """Cross-entropy with label smoothing and, if the recipe asks for it, class weights.

    Where a clip may have several labels it is the binary cross-entropy, summed over the classes.

    Args:
        recipe: its keys ``label_smoothing`` and ``class_weights``.
        labels: class indices of the training clips.
        classes: K.
        device: of the logits.
        several: whether a clip may have several labels.

    Attributes:
        note: a line for the log; ``""`` without class weights.
    """

    def __init__(
        self,
        recipe: Recipe,
        labels: Sequence[int],
        classes: int,
        device: torch.device,
        several: bool = False,
    ) -> None:
        self._smoothing = recipe.label_smoothing
        self._several = several
        self._weights: Tensor | None = None
        self.note = ""
        if recipe.class_weights == "auto":
            weights = inverse_frequency(labels, classes)
            self.note = f"class weights: {weights.min():.2f} to {weights.max():.2f}"
            self._weights = weights.to(device)

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of logits (B, K) and target probabilities (B, K)."""
        if self._several:
            smooth = targets * (1 - self._smoothing) + self._smoothing / 2
            terms = F.binary_cross_entropy_with_logits(
                logits, smooth, weight=self._weights, reduction="none"
            )
            return terms.sum(1).mean()
        return F.cross_entropy(
            logits, targets, weight=self._weights, label_smoothing=self._smoothing
        )


def inverse_frequency(labels: Sequence[int], classes: int) -> Tensor:
    """(K,) N / (K n_k) for N clips, n_k of class k: their mean over the clips is 1.

    A class without a clip gets weight 0.
    """
    counts = torch.bincount(torch.as_tensor(labels, dtype=torch.int64), minlength=classes).double()
    weights = counts.sum() / (counts.count_nonzero() * counts)
    return torch.where(counts > 0, weights, 0.0).float()
