"""Checks of a map: does it depend on the weights, and do the cells that it names matter?

Random weights must change a map (Adebayo et al., NeurIPS 2018). Deletion and insertion (Petsiuk et
al., RISE, BMVC 2018) replace cells by a blurred picture in the order of their evidence, or restore
them in it, and take the area under the scores. Both are compared with random orders and with an
order from the centre of the picture outwards, which is hard to beat where subjects are centred.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from smnet.inference.backends import Backend
from smnet.inference.classifier import Classifier, decompose
from smnet.inference.evidence import evidence_of, scores_of

if TYPE_CHECKING:
    from smnet.inference.torch_backend import TorchBackend

Values = NDArray[np.float64]
Array = NDArray[np.float32]

STEPS = 6
"""Parts into which the cells are divided."""
DRAWS = 8
"""Random orders, and random classifiers."""
NETWORKS = 3
"""Networks with random weights."""
RESAMPLED = 2000
"""Samples of the bootstrap."""
CHANGED = 0.5
"""Mean absolute rank correlation below which random weights count as changing a map."""


@dataclass(frozen=True)
class Checks:
    """The checks of one map.

    Attributes:
        classifier: rank correlations with the maps of random classifiers on the same features.
        network: rank correlations with the maps of networks with random weights; empty for
            exported files.
        deletion, insertion: areas under the score, in [0, 1], by the order of the cells: evidence
            and centre (1,), random (DRAWS,). Deletion should be low, insertion high.
    """

    classifier: Values
    network: Values
    deletion: dict[str, Values]
    insertion: dict[str, Values]

    @property
    def depends_on_weights(self) -> bool:
        """Whether random weights change the map."""
        some = [np.abs(x).mean() for x in (self.classifier, self.network) if len(x)]
        return bool(max(some, default=0.0) < CHANGED)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "random_classifier": self.classifier.round(4).tolist(),
            "random_network": self.network.round(4).tolist(),
            "depends_on_weights": self.depends_on_weights,
            "deletion": {name: x.round(4).tolist() for name, x in self.deletion.items()},
            "insertion": {name: x.round(4).tolist() for name, x in self.insertion.items()},
        }


def check(
    backend: Backend,
    view: NDArray[np.uint8],
    label: int,
    maps: Array,
    seed: int = 0,
    done: Callable[[int, int], None] = lambda step, steps: None,
) -> Checks:
    """Check the map (T', h, w) of a class in a view.

    Args:
        backend: scores and explains.
        view: (T*L, 3, h, w) uint8.
        label: index of the class.
        maps: its map.
        seed: of random weights and orders.
        done: receives the steps done, and those in all.
    """
    rng = np.random.default_rng(seed)
    orders = {
        "evidence": [np.argsort(-maps, axis=None, kind="stable")],
        "random": [rng.permutation(maps.size) for _ in range(DRAWS)],
        "centre": [centre_order(maps.shape, rng)],
    }
    steps = 2 * sum(map(len, orders.values())) + NETWORKS
    finished = 0
    blurred = blur(view)
    areas: dict[bool, dict[str, Values]] = {}
    for insert in (False, True):
        areas[insert] = {}
        for name, row in orders.items():
            found = []
            for order in row:
                scores = scores_along(backend, view, blurred, label, order, maps.shape, insert)
                found.append(float(np.mean(scores[1:] + scores[:-1]) / 2))
                finished += 1
                done(finished, steps)
            areas[insert][name] = np.array(found)
    classifier = _random_classifiers(backend, view, label, maps, rng)
    network = _random_networks(backend, view, label, maps, seed)
    done(steps, steps)
    return Checks(classifier, network, areas[False], areas[True])


def scores_along(
    backend: Backend,
    view: NDArray[np.uint8],
    blurred: NDArray[np.uint8],
    label: int,
    order: NDArray[np.int64],
    shape: tuple[int, ...],
    insert: bool,
) -> Values:
    """The scores while the cells of a map of ``shape`` are blurred in an order, or restored."""
    clips = []
    for step in range(STEPS + 1):
        chosen = np.zeros(len(order), bool)
        chosen[order[: round(step * len(order) / STEPS)]] = True
        restored = pixels(chosen.reshape(shape) == insert, view.shape)
        clips.append(np.where(restored, view, blurred))
    return scores_of(backend, clips, label)


def pixels(cells: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Cells (T', h, w) as pixels (T*L, 1, H, W) of a view of ``shape``."""
    frames, _, height, width = shape
    index = [
        np.arange(size) * count // size
        for size, count in zip((frames, height, width), cells.shape, strict=True)
    ]
    return cells[np.ix_(*index)][:, None]


def blur(view: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The frames of a view (N, 3, H, W), blurred over an eighth of the picture."""
    kernel = ImageFilter.GaussianBlur(view.shape[2] / 8)
    frames = [Image.fromarray(frame.transpose(1, 2, 0)).filter(kernel) for frame in view]
    return np.stack([np.asarray(frame).transpose(2, 0, 1) for frame in frames])


def centre_order(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.int64]:
    """Cells (T', h, w) from the centre of the picture outwards, equal ones in a random order."""
    _, height, width = shape
    rows, columns = ((np.arange(size) + 0.5) / size - 0.5 for size in (height, width))
    away = np.broadcast_to(np.hypot(rows[:, None], columns), shape)
    return np.lexsort((rng.random(away.size), away.ravel().round(6)))


def rank_correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Spearman's correlation of two maps, ties in the order of their places; 0 for a constant."""
    ranks = [np.argsort(np.argsort(x, axis=None, kind="stable")) for x in (a, b)]
    if min(np.ptp(a), np.ptp(b)) == 0:
        return 0.0
    table: Values = np.corrcoef(ranks[0], ranks[1])
    return float(table[0, 1])


def _random_classifiers(
    backend: Backend, view: NDArray[np.uint8], label: int, maps: Array, rng: np.random.Generator
) -> Values:
    """Correlations with the maps of the same features under random linear layers."""
    own = backend.classifier
    if own is None:
        return np.zeros(0)
    features = backend.features(view[None, None], pool=lambda x: x)[0, 0][-len(maps) :]
    weight = rng.standard_normal((DRAWS, own.weight.shape[1])).astype(np.float32)
    others, _ = decompose(features, Classifier(weight, np.zeros(DRAWS, np.float32)))
    return np.array([rank_correlation(maps, other) for other in others])


def _random_networks(
    backend: Backend, view: NDArray[np.uint8], label: int, maps: Array, seed: int
) -> Values:
    """Correlations with the maps of untrained networks."""
    if not hasattr(backend, "model"):
        return np.zeros(0)
    trained: TorchBackend = backend  # type: ignore[assignment]
    import torch

    from smnet.inference.torch_backend import TorchBackend as Opened
    from smnet.models import build_model

    found = []
    for number in range(NETWORKS):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + number)
            model = build_model(trained.spec)
        other = evidence_of(Opened(model, str(trained.device)), view[None])
        found.append(rank_correlation(maps, other.maps[label]))
    return np.array(found)


@dataclass(frozen=True)
class Comparison:
    """The evidence against another order of the cells.

    Attributes:
        test: deletion or insertion.
        other: random or centre.
        evidence, baseline: mean areas.
        low, high: 95 % interval of how much better the evidence is; NaN where it is unknown.
    """

    test: str
    other: str
    evidence: float
    baseline: float
    low: float
    high: float

    @property
    def better(self) -> float:
        """How much lower (deletion) or higher (insertion) the area is for the evidence."""
        gain = self.evidence - self.baseline
        return -gain if self.test == "deletion" else gain

    @property
    def row(self) -> tuple[str, str, str, str]:
        """A row of a table: test, the two areas, and the gain with its interval."""
        interval = "" if np.isnan(self.low) else f" [{self.low:+.3f}, {self.high:+.3f}]"
        return (
            f"{self.test} against {self.other}",
            f"{self.evidence:.3f}",
            f"{self.baseline:.3f}",
            f"{self.better:+.3f}{interval}",
        )


def compare(checks: Sequence[Checks], seed: int = 0) -> list[Comparison]:
    """The gains of the evidence over one or more clips.

    The interval is a bootstrap over clips. Of one clip, it is that of the random orders, and
    unknown for the centre.
    """
    rng = np.random.default_rng(seed)
    found = []
    for test, sign in (("deletion", -1), ("insertion", 1)):
        areas: list[dict[str, Values]] = [getattr(one, test) for one in checks]
        for other in ("random", "centre"):
            gains = [sign * (area["evidence"] - area[other]) for area in areas]
            if len(gains) > 1:
                means = np.array([gain.mean() for gain in gains])
                drawn = rng.choice(means, (RESAMPLED, len(means))).mean(1)
            else:
                drawn = gains[0] if len(gains[0]) > 1 else np.full(1, np.nan)
            low, high = np.percentile(drawn, (2.5, 97.5))
            evidence = float(np.mean([area["evidence"].mean() for area in areas]))
            baseline = float(np.mean([area[other].mean() for area in areas]))
            found.append(Comparison(test, other, evidence, baseline, float(low), float(high)))
    return found
