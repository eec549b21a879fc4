"""What is shown of an explanation: pictures, videos, masks and gates, the page, the verb."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from smnet.data.loading.transforms import normalise
from smnet.explain.attention import attention_of
from smnet.explain.draw import overlay
from smnet.inference.torch_backend import TorchBackend
from smnet.models import create_model
from smnet.models.smnet import SpatialAttention
from tests.conftest import Called
from tests.explain.conftest import Corner
from tests.videos import decode_all


def test_orange_for_and_blue_against_the_class() -> None:
    frames = np.full((2, 20, 20, 3), 128, np.uint8)
    maps = np.array([[[1.0, -1.0]], [[0.0, 0.5]]], np.float32)
    shown = overlay(frames, maps).astype(int)
    assert shown[0, 10, 0, 0] > 200 > shown[0, 10, 0, 2]
    assert shown[0, 10, -1, 2] > 200 > shown[0, 10, -1, 0]
    assert np.abs(shown[1, 10, 0] - 128).max() <= 1
    assert 128 < shown[1, 10, -1, 0] < shown[0, 10, 0, 0]  # one scale for all frames
    longer = overlay(np.repeat(frames, 2, 0), maps)  # a network that halves the frames
    assert np.array_equal(longer[0], longer[1])


@pytest.mark.usefixtures("short_network")
def test_masks_and_gates_are_those_of_the_article() -> None:
    torch.manual_seed(0)
    model = create_model("smnet_resnet18", 3, 4, width=8).eval()
    for module in model.modules():
        if isinstance(module, SpatialAttention):
            torch.nn.init.normal_(module.conv.weight, 0, 0.1)
    backend = TorchBackend(model, "cpu")
    view = np.random.default_rng(0).integers(0, 256, (4, 3, 64, 64), dtype=np.uint8)
    before = backend.score(view[None, None])
    found = attention_of(backend, view)
    assert [one.stage for one in found] == ["res2", "res3", "res4", "res5"]
    seen = {}
    first = model.layer1[0].temporal

    def watch(module: torch.nn.Module, given: tuple[torch.Tensor, int]) -> None:
        x, count = given
        seen["mask"] = first.se.attention(first.se.over_time(x, count), count)[:, 0]
        seen["gates"] = first.me.gates(x, count)[:, :, 0, 0]

    first.register_forward_pre_hook(watch)
    with torch.no_grad():
        model(normalise(torch.from_numpy(view)[None], model.spec.mean, model.spec.std))
    assert np.allclose(found[0].mask, seen["mask"], atol=1e-4)
    assert np.allclose(found[0].gates, seen["gates"], atol=1e-4)
    assert found[0].response.shape == (4,)
    assert np.array_equal(backend.score(view[None, None]), before)  # no hook is left


def test_networks_without_masks(corner: Corner) -> None:
    view = np.zeros((4, 3, 8, 8), np.uint8)
    assert attention_of(corner, view) == ()
    model = create_model("tsn_resnet18", 3, 2, width=8)
    model.spec = replace(model.spec, input_size=32)
    assert attention_of(TorchBackend(model, "cpu"), np.zeros((2, 3, 32, 32), np.uint8)) == ()


def test_the_verb(smnet: Callable[..., Called], run: Path, clips: Path, tmp_path: Path) -> None:
    video = clips / "val" / "rising" / "0.mp4"
    files = [tmp_path / f"why.{suffix}" for suffix in ("html", "mp4", "gif", "png")]
    called = smnet(
        *("explain", run, video, "--class", "rising", "--beside", run, "--check"),
        *(word for file in files for word in ("--out", file)),
    )
    assert called.status == 0, called.err
    assert "rising, score" in called.out
    assert "deletion against random" in called.out
    assert called.err.count("written: ") == 4
    page = files[0].read_text()
    for words in ("Why rising?", "Does the order of the frames matter?", "Checks of the map"):
        assert words in page
    assert len(decode_all(files[1])) == 2  # a frame for each segment
    with Image.open(files[2]) as gif, Image.open(files[3]) as strip:
        assert gif.size == (448, 448)  # a row for each network
        assert strip.width > 200
    # Its own files are replaced, and others are not.
    assert smnet("explain", run, video, "--out", files[3]).status == 0
    (tmp_path / "mine.gif").write_bytes(b"GIF89a mine")
    assert smnet("explain", run, video, "--out", tmp_path / "mine.gif").status == 1


def test_json_and_several_clips(smnet: Callable[..., Called], run: Path, clips: Path) -> None:
    called = smnet("explain", run, clips / "val" / "rising", "--json", "--shuffles", 2)
    assert called.status == 0, called.err
    rows = [json.loads(line) for line in called.out.splitlines()]
    assert len(rows) == 2
    row = rows[0]
    assert sum(row["frames"]) + row["constant"] == pytest.approx(row["logit"], abs=1e-3)
    assert row["exact"] is True
    assert row["label"] == row["top"][0]["label"]
    assert np.shape(row["map"]) == (2, 1, 1)
    assert set(row["time"]) == {"original", "reversed", "shuffled", "frozen", "left_out"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--class", "risin"), "no class 'risin'; did you mean 'rising'"),
        (("--class", "rising", "--against", "rising"), "is the class that is explained"),
        (("--out", "why.txt"), "an explanation is written as .mp4, .gif, .png or .html"),
        (("--start", "2", "--end", "1"), "--start 2 --end 1"),
    ],
)
def test_what_is_refused(
    smnet: Callable[..., Called], run: Path, clips: Path, words: tuple[str, ...], says: str
) -> None:
    called = smnet("explain", run, clips / "val" / "rising" / "0.mp4", *words)
    assert called.status == 1
    assert says in called.err


def test_several_clips_have_no_single_page(
    smnet: Callable[..., Called], run: Path, clips: Path, tmp_path: Path
) -> None:
    called = smnet("explain", run, clips / "val", "--out", tmp_path / "why.html")
    assert called.status == 1
    assert "--out takes one clip; 6 were given" in called.err
