"""The probe against plain gradient descent and against its optimality conditions."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from smnet.adapt.probe import COMPONENTS, fit, path, probabilities

Array = NDArray[np.float64]


def problem(n: int, d: int, classes: int, several: bool = False) -> tuple[Array, Array]:
    """Noisy clusters with features of different scales, and their targets."""
    rng = np.random.default_rng(n + d)
    labels = rng.integers(0, classes, n)
    x = rng.normal(size=(n, d)) + rng.normal(size=(classes, d))[labels]
    targets = np.eye(classes)[labels]
    if several:
        targets = np.maximum(targets, rng.random((n, classes)) < 0.2)
    return 5 + x * rng.uniform(0.1, 10, d), targets


def slopes(
    x: Array, y: Array, weight: Array, bias: Array, strength: float, several: bool
) -> tuple[Array, Array]:
    """The gradient of the objective, written out: (p - y) x / N + strength W, and (p - y) / N."""
    z = x @ weight.T + bias
    if several:
        p = 1 / (1 + np.exp(-z))
    else:
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
    return (p - y).T @ x / len(x) + strength * weight, (p - y).mean(0)


def standardised(x: Array) -> Array:
    return (x - x.mean(0)) / x.std(0) / np.sqrt(x.shape[1])


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(("n", "d"), [(60, 8), (30, 200)])
def test_equals_plain_gradient_descent(n: int, d: int, several: bool) -> None:
    x, y = problem(n, d, 3, several)
    z, strength = standardised(x), 0.05
    weight, bias = np.zeros((3, d)), np.zeros(3)
    for _ in range(4000):
        step, lift = slopes(z, y, weight, bias, strength, several)
        weight, bias = weight - 1.5 * step, bias - 1.5 * lift
    probe = fit(x, y, strength, several=several)
    # A constant in all biases changes no probability under the softmax.
    found, expected = (probabilities(a, several) for a in (probe.logits(x), z @ weight.T + bias))
    assert np.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(("n", "d"), [(200, 5), (40, 900), (300, 300)])
def test_the_gradient_is_zero_at_the_solution(n: int, d: int, several: bool) -> None:
    x, y = problem(n, d, 4, several)
    for probe in path(x, y, [1.0, 1e-2], several=several):
        scale = x.std(0) * np.sqrt(d)
        weight, bias = probe.weight * scale, probe.bias + probe.weight @ x.mean(0)
        for slope in slopes(standardised(x), y, weight, bias, probe.strength, several):
            assert np.abs(slope).max() < 1e-7


def test_constant_features_have_no_weight() -> None:
    x, y = problem(40, 6, 3)
    x[:, 2] = 7.0
    assert (fit(x, y, 0.01).weight[:, 2] == 0).all()


def test_many_samples_use_principal_components() -> None:
    x, y = problem(COMPONENTS + 100, COMPONENTS + 50, 2)
    probe = fit(x, y, 1e-2)
    assert (probe.logits(x).argmax(1) == y.argmax(1)).mean() > 0.98


def test_probabilities() -> None:
    logits = np.array([[0.0, 1.0, -2.0]])
    assert probabilities(logits).sum() == pytest.approx(1)
    assert probabilities(logits, several=True)[0, 0] == 0.5


def test_a_class_without_samples_is_never_answered() -> None:
    x, y = problem(30, 50, 3)
    y[:, 2], y[:, 0] = 0, 1 - y[:, 1]
    probe = path(x, y, [1.0, 1e-5])[-1]
    assert (probe.logits(x).argmax(1) < 2).all()
