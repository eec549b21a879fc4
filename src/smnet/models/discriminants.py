"""The distance of a clip to the class that it is answered with, in linear discriminants."""

from __future__ import annotations

import torch
from torch import Tensor, nn

PREFIX = "discriminants."
"""Of the names of these tensors in a state dict."""


class Discriminants(nn.Module):
    """Squared Mahalanobis distance to the mean of a class, along the directions that tell classes
    apart (Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples and
    Adversarial Attacks", NeurIPS 2018; in the space of Fisher's discriminants).

    For what the classifier sees, x, and the answered class k: ``|A x + b - m_k|^2``.

    Args:
        classes: K.
        features: D, the length of x.
        count: R, the number of directions.
    """

    def __init__(self, classes: int, features: int, count: int) -> None:
        super().__init__()
        self.directions: Tensor
        self.offset: Tensor
        self.means: Tensor
        self.register_buffer("directions", torch.zeros(count, features))
        self.register_buffer("offset", torch.zeros(count))
        self.register_buffer("means", torch.zeros(classes, count))

    def forward(self, moments: Tensor, logits: Tensor) -> Tensor:
        """Distances (B,) of moments (B, D) to the best class of logits (B, K)."""
        place = moments @ self.directions.T + self.offset
        own = self.means[logits.argmax(dim=1)]
        return (place - own).square().sum(dim=1)
