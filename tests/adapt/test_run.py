"""``smnet adapt``: the probe as a checkpoint, fine-tuning, the cache, the command line."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smnet.adapt import run as module
from smnet.adapt.features import FeatureCache, _key, clip_features
from smnet.adapt.run import Adapted, adapt
from smnet.adapt.start import start_recipe
from smnet.checkpoints.file import read_checkpoint
from smnet.data.annotations.read import read_clips
from smnet.data.clips import Clip
from smnet.data.loading.views import ViewPlan
from smnet.errors import UserError
from smnet.evaluation.evaluate import evaluate_checkpoints
from smnet.inference.recognizer import Recognizer
from smnet.inference.torch_backend import TorchBackend
from tests.conftest import CLASSES, Called

Smnet = Callable[..., Called]


def test_the_probe_learns(adapted: Adapted) -> None:
    assert adapted.kept == "probe"
    assert adapted.crossed.top(1).value >= 0.8  # tint tells the classes
    assert len(adapted.crossed.labels) == 15
    assert adapted.probe is not None
    assert len(adapted.probe.labels) == 6


def test_the_checkpoint_predicts_what_the_probe_does(adapted: Adapted, few: Path) -> None:
    result = evaluate_checkpoints([str(adapted.folder)], str(few), workers=0)
    assert result is not None
    assert adapted.probe is not None
    assert result.paths == adapted.probe.paths
    tempered = adapted.checked(adapted.probe).scores
    assert np.allclose(result.scores, tempered, atol=1e-4)


def test_drawn_validation_clips_train_the_kept_probe(
    few: Path, run: Path, tmp_path: Path, said: io.StringIO
) -> None:
    recipe = start_recipe(str(run), ["workers=0", "device=cpu"], {"data": str(few / "train")})
    found = adapt(recipe, tmp_path / "a", minutes=0)
    assert found is not None
    assert found.whole
    assert found.probe is not None
    assert len(found.probe.labels) == 3
    assert len(found.crossed.labels) == 15
    assert found.result is found.crossed
    first, second = (
        read_checkpoint(tmp_path / "a" / f"{n}.safetensors") for n in ("probe", "best")
    )
    assert not torch.equal(first.tensors["fc.weight"], second.tensors["fc.weight"])
    assert second.metrics["val"]["clips"] == 15
    assert "trained again on all 15 clips" in said.getvalue()
    evaluate_checkpoints([str(tmp_path / "a")], str(few / "train"), workers=0)
    assert "trained on all clips of its data set" in said.getvalue()


def test_an_ordinary_checkpoint(adapted: Adapted, few: Path) -> None:
    checkpoint = read_checkpoint(adapted.folder)
    assert checkpoint.spec.class_names == CLASSES
    assert checkpoint.recipe["data"] == str(few)
    clip = next((few / "val" / "rising").iterdir())
    assert Recognizer.load(adapted.folder, "cpu").predict(str(clip)).labels


def test_features_are_computed_once(
    adapted: Adapted, few: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*words: object, **more: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("smnet.adapt.features.make_loader", none)
    recipe = start_recipe(str(run), ["workers=0", "device=cpu"], {"data": str(few)})
    again = adapt(recipe, adapted.folder, minutes=0)
    assert again is not None
    assert again.verdict == adapted.verdict


def test_features_are_kept_when_a_label_is_corrected() -> None:
    plan = ViewPlan()
    wrong = Clip("a.mp4", 0, "all.csv:2", group="x")
    right = Clip("a.mp4", 1, "all.csv:3", labels=(1, 2))
    assert _key(wrong, plan, "n") == _key(right, plan, "n")
    part = Clip("a.mp4", 0, "all.csv:2", start=1.0)
    assert len({_key(part, plan, "n"), _key(wrong, plan, "m"), _key(wrong, plan, "n")}) == 3


def test_a_damaged_cache_is_an_empty_one(tmp_path: Path) -> None:
    file = tmp_path / "features.npz"
    file.write_bytes(b"PK\3\4 cut short")
    cache = FeatureCache(file)
    assert cache.get("a") is None
    cache.put("a", np.ones((1, 2), np.float32))
    cache.save()
    assert FeatureCache(file).get("a") is not None


def test_clips_that_time_does_not_reach_are_left_out(few: Path, run: Path, tmp_path: Path) -> None:
    backend, clips = TorchBackend.load(run, "cpu"), read_clips(str(few)).splits["train"]
    cache, plan = FeatureCache(tmp_path / "f.npz"), ViewPlan(size=32, short_side=32, segments=2)
    words: dict[str, Any] = {"mirrored": False, "batch": 3, "workers": 0}
    features, problems = clip_features(backend, clips, plan, cache, "n", until=0.0, **words)
    reached = np.isfinite(features).all((1, 2))
    assert not problems
    assert sorted(clips[i].label for i in np.flatnonzero(reached)) == [0, 1, 2]
    again, _ = clip_features(backend, clips, plan, cache, "n", **words)
    assert np.isfinite(again).all()
    assert np.array_equal(again[reached], features[reached])


@pytest.mark.slow
def test_fine_tuning_is_kept_where_it_is_better(
    few: Path, run: Path, tmp_path: Path, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ["workers=0", "device=cpu", "epochs=1"]
    recipe = start_recipe(str(run), keys, {"data": str(few)})
    found = adapt(recipe, tmp_path / "a", minutes=1)
    assert found is not None
    assert found.tuned is not None
    assert len(found.tuned.labels) == 6
    assert "fine-tuning: 1 epochs" in said.getvalue()
    monkeypatch.setattr(
        module, "verdict", lambda *_: ("fine-tuned", "kept: the fine-tuned network")
    )
    adapt(recipe, tmp_path / "a", minutes=1)
    best, last = (read_checkpoint(tmp_path / "a" / n) for n in ("best.safetensors", "finetune"))
    assert best.recipe["weights"] == last.recipe["weights"]


def test_another_run_is_not_replaced(adapted: Adapted, few: Path, run: Path) -> None:
    recipe = start_recipe(str(run), ["workers=0", "seed=3"], {"data": str(few)})
    with pytest.raises(UserError, match="holds another run"):
        adapt(recipe, adapted.folder, minutes=0)


def test_keys_win_over_those_of_the_start(run: Path) -> None:
    recipe = start_recipe(str(run), ["size=40", "segments=3"], {"data": "x"})
    assert (recipe.model, recipe.size, recipe.segments) == ("smnet_resnet18", 40, 3)
    assert recipe.resize_to >= 40
    assert start_recipe(str(run), [], {"data": "x"}).size == 32


def test_weights_of_no_network_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    file.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"w\.pth"):
        start_recipe(str(file), [], {"data": "x"})


def test_the_verb(smnet: Smnet, few: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("adapt", few, "--from", run, "--minutes", 0, "--out", out, "workers=0", "device=cpu")
    called = smnet(*words)
    assert called.status == 0, called.err
    assert "cross-validated: top-1" in called.out
    assert f"checkpoint: {out / 'best.safetensors'}" in called.out
    assert "fine-tuning: left out" in called.err
