"""The checks of a map: random weights, deletion and insertion, and a planted cue."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from smnet.data.loading.transforms import normalise
from smnet.explain.checks import (
    Checks,
    blur,
    centre_order,
    check,
    compare,
    pixels,
    rank_correlation,
    scores_along,
)
from smnet.inference.evidence import evidence_of
from smnet.inference.torch_backend import TorchBackend
from smnet.models import build_model
from smnet.models.base import ModelSpec, VideoModel, fold_frames, unfold_frames
from tests.explain.conftest import Corner


def test_deletion_and_insertion_find_the_cell_that_counts(corner: Corner) -> None:
    rng = np.random.default_rng(0)
    view = rng.integers(0, 40, (4, 3, 8, 8), dtype=np.uint8)
    view[1, :, :2, :2] = 255
    found = evidence_of(corner, view[None])
    assert found.label == "yes"
    maps = found.map_of()
    assert np.unravel_index(maps.argmax(), maps.shape) == (1, 0, 0)
    steps: list[tuple[int, int]] = []
    result = check(corner, view, 1, maps, done=lambda step, all_: steps.append((step, all_)))
    assert steps[-1] == (23, 23)
    # The first step of deletion blurs the cell: the score falls at once.
    assert result.deletion["evidence"][0] < result.deletion["random"].mean()
    assert result.insertion["evidence"][0] > result.insertion["random"].mean()
    assert result.deletion["evidence"][0] < result.deletion["centre"][0]
    assert all(one.better > 0 for one in compare([result]))


def test_scores_along_an_order(corner: Corner) -> None:
    view = np.full((4, 3, 8, 8), 255, np.uint8)
    dark = np.zeros_like(view)
    order = np.r_[16, np.delete(np.arange(64), 16)]  # the cell that counts is the first one
    deleted = scores_along(corner, view, dark, 1, order, (4, 4, 4), insert=False)
    inserted = scores_along(corner, view, dark, 1, order, (4, 4, 4), insert=True)
    full = 1 / (1 + np.exp(-4))
    assert deleted == pytest.approx([full, *[0.5] * 6])
    assert inserted == pytest.approx([0.5, *[full] * 6])


def test_cells_as_pixels() -> None:
    cells = np.arange(8).reshape(2, 2, 2)
    shown = pixels(cells, (4, 3, 6, 4))
    assert shown.shape == (4, 1, 6, 4)
    assert np.array_equal(shown[:, 0, 0, 0], [0, 0, 4, 4])
    assert np.array_equal(shown[0, 0, :, 0], [0, 0, 0, 2, 2, 2])
    assert (
        blur(np.full((1, 3, 16, 16), 7, np.uint8)).tolist() == np.full((1, 3, 16, 16), 7).tolist()
    )


def test_the_order_from_the_centre() -> None:
    order = centre_order((2, 3, 3), np.random.default_rng(0))
    assert {*order[:2]} == {4, 13}
    assert {*order[-8:]} == {0, 2, 6, 8, 9, 11, 15, 17}


def test_rank_correlation() -> None:
    a = np.array([1.0, 2.0, 3.0, 4.0])
    assert rank_correlation(a, a**3) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(-1)
    assert rank_correlation(a, np.array([1, 3, 2, 4])) == pytest.approx(0.8)  # 1 - 6 * 2 / 60
    assert rank_correlation(a, np.ones(4)) == 0


def areas(evidence: float, random: float) -> dict[str, NDArray[np.float64]]:
    spread = np.linspace(-0.1, 0.1, 5)
    return {
        "evidence": np.array([evidence]),
        "random": random + spread,
        "centre": np.array([random]),
    }


def test_intervals() -> None:
    none = np.zeros(0)
    one = Checks(none, none, areas(0.2, 0.5), areas(0.8, 0.5))
    first, second, *_ = compare([one])
    assert (first.test, first.other) == ("deletion", "random")
    assert first.better == pytest.approx(0.3)
    assert (first.low, first.high) == pytest.approx((0.205, 0.395))
    assert np.isnan(second.low)
    assert second.row == ("deletion against centre", "0.200", "0.500", "+0.300")
    others = [Checks(none, none, areas(0.5 - g, 0.5), areas(0.5 + g, 0.5)) for g in (0.1, 0.2, 0.3)]
    for row in compare(others):
        assert row.better == pytest.approx(0.2)
        assert 0.1 - 1e-9 <= row.low < 0.2 < row.high <= 0.3 + 1e-9


@pytest.mark.usefixtures("short_network")
def test_networks_of_random_weights() -> None:
    """The same weights give the same map, and others give another one."""
    spec = ModelSpec("smnet_resnet18", 3, 3, {"width": 8}, input_size=96, short_side=96)
    torch.manual_seed(5)
    backend = TorchBackend(build_model(spec), "cpu")
    view = np.random.default_rng(0).integers(0, 256, (3, 3, 96, 96), dtype=np.uint8)
    found = evidence_of(backend, view[None])
    result = check(backend, view, 1, found.map_of("1"), seed=5)
    assert result.network[0] == pytest.approx(1)
    assert np.abs(result.network[1:]).max() < 0.95
    assert len(result.network) == 3
    assert len(result.classifier) == 8


class Small(VideoModel):
    """Three convolutions; a cell of 8 pixels sees 15 pixels of its own frame."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, 16, dropout=0.0)
        rows = [(3, 8), (8, 16), (16, 16)]
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU())
                for a, b in rows
            )
        )

    def forward_features(self, clips: Tensor) -> Tensor:
        frames, count = fold_frames(clips)
        return unfold_frames(self.layers(frames), count)


def with_cue(cue: bool, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Noise (8, 3, 64, 64); with the cue, a square moves in the upper left corner in frames 3 to
    5."""
    view = rng.normal(110, 8, (8, 3, 1, 1)) + rng.normal(0, 25, (8, 3, 64, 64))
    for step in range(3 if cue else 0):
        at = 2 + 4 * step
        view[2 + step, :, at : at + 10, at : at + 10] = 250
    return view.clip(0, 255).astype(np.uint8)


def test_a_planted_cue_is_found() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = Small(ModelSpec("tsn_resnet18", 2, 8, input_size=64, short_side=64)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    labels = torch.tensor([0, 1] * 4)
    for _ in range(40):
        views = np.stack([with_cue(bool(label), rng) for label in labels])
        clips = normalise(torch.from_numpy(views), model.spec.mean, model.spec.std)
        loss = nn.functional.cross_entropy(model(clips), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    backend = TorchBackend(model, "cpu")
    fresh = np.random.default_rng(1)
    shares = []
    for _ in range(4):
        found = evidence_of(backend, with_cue(True, fresh)[None])
        assert found.label == "1"
        positive = found.map_of("1", "0").clip(0)
        shares.append(positive[2:5, :3, :3].sum() / positive.sum())  # 24 of 64 pixels
        frames = np.argsort(found.curve("1", "0"))[-3:]
        assert sorted(frames.tolist()) == [2, 3, 4]
    assert np.mean(shares) > 0.6, shares
