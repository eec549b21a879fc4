"""The loss against sums written out by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from smnet.recipes.recipe import Recipe
from smnet.training.loss import Loss, inverse_frequency


def test_weights_are_the_inverse_frequency() -> None:
    weights = inverse_frequency([0, 0, 0, 1], 3)
    assert weights.tolist() == [pytest.approx(4 / (2 * 3)), pytest.approx(4 / 2), 0.0]
    assert sum(weights[label].item() for label in (0, 0, 0, 1)) / 4 == pytest.approx(1.0)


def test_the_weighted_loss_by_hand() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    of = Loss(Recipe(class_weights="auto"), [0, 0, 0, 1], 2, torch.device("cpu"))
    losses = [math.log(1 + math.exp(-1)), math.log(1 + math.exp(2))]
    assert of(logits, targets).item() == pytest.approx((4 / 6) * sum(losses) / 2)
    assert of.note == "class weights: 0.67 to 2.00"


def test_without_weights_it_is_the_cross_entropy() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 1, 0])
    of = Loss(Recipe(label_smoothing=0.1), labels.tolist(), 3, torch.device("cpu"))
    expected = F.cross_entropy(logits, labels, label_smoothing=0.1)
    assert of(logits, F.one_hot(labels, 3).float()).item() == pytest.approx(expected.item())
    assert of.note == ""
