"""The Res2Net trunk: its block against the equations, its published size, names and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smnet.models import create_model, list_models, load_weights, multiply_adds, parameter_count
from smnet.models.res2net import Res2NetBlock

from .reference import (
    assert_clips_stay_apart,
    assert_order_counts,
    assert_same,
    naive_norm,
    noise,
    scramble,
    small,
)


def naive_block(x: Tensor, m: Res2NetBlock, stride: int) -> Tensor:
    y = torch.relu(naive_norm(F.conv2d(x, m.conv1.weight), m.bn1))
    a, b, c, d = y.split(y.shape[1] // 4, dim=1)

    def part(i: int, z: Tensor) -> Tensor:
        z = F.conv2d(z, m.convs[i].weight, stride=stride, padding=1)
        return torch.relu(naive_norm(z, m.bns[i]))

    if m.downsample is None:
        za = part(0, a)
        zb = part(1, b + za)
        y = torch.cat([za, zb, part(2, c + zb), d], 1)
    else:
        assert isinstance(m.downsample, nn.Sequential)
        pooled = F.avg_pool2d(d, 3, stride, padding=1)
        y = torch.cat([part(0, a), part(1, b), part(2, c), pooled], 1)
        x = naive_norm(F.conv2d(x, m.downsample[0].weight, stride=stride), m.downsample[1])
    return torch.relu(naive_norm(F.conv2d(y, m.conv3.weight), m.bn3) + x)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("first", "stride"), [(False, 1), (True, 1), (True, 2)])
def test_block_is_its_equations(first: bool, stride: int, training: bool) -> None:
    shortcut = None
    if first:
        shortcut = nn.Sequential(nn.Conv2d(24, 40, 1, stride, bias=False), nn.BatchNorm2d(40))
    module = Res2NetBlock(24 if first else 40, 10, stride, shortcut).double().train(training)
    scramble(module)
    x = noise(6, 24 if first else 40, 5, 4)
    assert_same(module, lambda a: naive_block(a, module, stride), x, 3)


def test_size_is_the_published_one() -> None:
    with torch.device("meta"):
        model = create_model("tsn_res2net50", 1000)
    assert parameter_count(model) == 25_699_120  # 25.70 M
    assert multiply_adds(model, 1) == pytest.approx(4.26e9, rel=0.005)


def published(classes: int = 1000) -> dict[str, Tensor]:
    """The ImageNet file of 26w x 4s: its names, and shapes by the article's table."""
    state: dict[str, Tensor] = {}

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{part}"] = torch.rand(channels)

    state["conv1.weight"] = torch.rand(64, 3, 7, 7)
    norm("bn1", 64)
    into = 64
    for stage, (blocks, w) in enumerate(zip((3, 4, 6, 3), (26, 52, 104, 208), strict=True)):
        out = 256 * 2**stage
        for index in range(blocks):
            at = f"layer{stage + 1}.{index}"
            state[f"{at}.conv1.weight"] = torch.rand(4 * w, into, 1, 1)
            norm(f"{at}.bn1", 4 * w)
            for i in range(3):
                state[f"{at}.convs.{i}.weight"] = torch.rand(w, w, 3, 3)
                norm(f"{at}.bns.{i}", w)
            state[f"{at}.conv3.weight"] = torch.rand(out, 4 * w, 1, 1)
            norm(f"{at}.bn3", out)
            if index == 0:
                state[f"{at}.downsample.0.weight"] = torch.rand(out, into, 1, 1)
                norm(f"{at}.downsample.1", out)
            into = out
    return state | {"fc.weight": torch.rand(classes, 2048), "fc.bias": torch.rand(classes)}


@pytest.mark.parametrize("family", ["tsn", "tea", "smnet"])
def test_starts_from_the_published_image_weights(family: str, tmp_path: Path) -> None:
    donor = published()
    torch.save(donor, tmp_path / "res2net50_26w_4s.pth")
    model = create_model(f"{family}_res2net50", 5)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    load_weights(model, tmp_path / "res2net50_26w_4s.pth")
    for name, tensor in model.state_dict().items():
        if name in donor and not name.startswith("fc."):
            assert torch.equal(tensor, donor[name]), name
        else:
            own = ("fc.", ".temporal.", "num_batches_tracked")
            assert any(part in name for part in own), name
            assert torch.equal(tensor, before[name]), name


def test_the_other_stem_of_v1b_is_refused() -> None:
    state = published()
    state["conv1.0.weight"] = state.pop("conv1.weight")
    with pytest.raises(ValueError, match=r"not a trunk of tsn_res2net50: it lacks conv1\.weight"):
        load_weights(create_model("tsn_res2net50", 5), state)


def test_place_of_the_published_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fail(url: str, *_: Any, **__: Any) -> None:
        asked.append(url)
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    file = tmp_path / "hub" / "checkpoints" / "res2net50_26w_4s-06e79181.pth"
    with pytest.raises(ValueError, match=f"cannot download .* put the file at {file}"):
        create_model("tea_res2net50", 5, width=8, weights="imagenet")
    assert asked[0].startswith("https://github.com/")
    assert asked[0].endswith("/v0.1-res2net/res2net50_26w_4s-06e79181.pth")


def test_families_on_it() -> None:
    names = {"tsn_res2net50", "tsm_res2net50", "tea_res2net50", "smnet_res2net50"}
    assert names <= set(list_models("*_res2net50"))
    assert "tdn_res2net50" not in list_models()


def test_the_baseline_ignores_the_order_of_frames() -> None:
    model = small("tsn_res2net50", 4)
    clips = noise(2, 4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(clips.flip(1)), model(clips), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("place", ["before_conv1", "after_conv1"])
@pytest.mark.parametrize("family", ["tsm", "smnet"])
def test_other_families_on_this_trunk(family: str, place: str) -> None:
    model = small(f"{family}_res2net50", 4, place=place)
    assert_clips_stay_apart(model, 4)
    if family == "smnet" or place == "before_conv1":  # 12 channels shift 1, an eighth
        assert_order_counts(model, 4)


def test_the_stride_cannot_be_moved() -> None:
    with pytest.raises(ValueError, match="stride_in must be conv2, not 'conv1'"):
        create_model("tsn_res2net50", 5, width=8, stride_in="conv1")
