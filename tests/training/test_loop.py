"""The training loop: results, files, messages and refusals."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from smnet.checkpoints.file import load, read_checkpoint
from smnet.data.annotations.read import read_clips
from smnet.distributed import Processes
from smnet.errors import UserError
from smnet.evaluation.evaluate import evaluate_checkpoints
from smnet.inference.recognizer import Recognizer
from smnet.inference.torch_backend import TorchBackend
from smnet.recipes.recipe import read_recipe
from smnet.training import loop as train_module
from smnet.training import validation as validation_module
from smnet.training.freeze import freeze_norms
from smnet.training.loop import train
from smnet.training.setup import training_plan
from smnet.training.step import Meter, grouped
from smnet.training.validation import compare_with_best
from tests.conftest import CLASSES, OF_RUN, tiny, write_clips
from tests.videos import moving_frames, write_video

PLAIN: dict[str, Any] = {"model": "tsn_resnet18", "dropout": 0.0, "crop": "centre", "flip": "off"}
"""Nothing is random except the order of clips."""


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_file(folder / f"{name}.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def rows(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


# --- The files of a run.


def test_it_learns(run: Path) -> None:
    losses = [row["loss"] for row in rows(run, "train")]
    assert losses[-1] < 0.8 * losses[0]
    assert read_checkpoint(run).metrics["val"]["top1"] >= 2 / 3  # chance is 1/3


def test_what_lies_in_the_folder_of_a_run(run: Path, clips: Path) -> None:
    assert {p.name for p in run.iterdir()} - {"tensorboard", "evaluation.html"} == {
        "recipe.yaml",
        "log.jsonl",
        "best.safetensors",
        "last.safetensors",
        "resume.pt",
    }
    assert read_recipe(str(run / "recipe.yaml")) == tiny(clips, **OF_RUN)


def test_the_checkpoint_carries_everything(run: Path, clips: Path) -> None:
    checkpoint = read_checkpoint(run / "last.safetensors")
    spec = checkpoint.spec
    assert spec.class_names == CLASSES
    assert (spec.name, spec.num_segments, spec.sampling) == ("smnet_resnet18", 2, "uniform")
    assert (spec.input_size, spec.short_side) == (32, 32)
    assert checkpoint.recipe == tiny(clips, **OF_RUN).model_dump(mode="json")
    assert checkpoint.metrics["val"]["epoch"] == 10
    assert checkpoint.metrics["val"]["clips"] == 6
    assert checkpoint.metrics["val"]["views"] == "1x1"


def test_best_and_last_have_the_numbers_of_the_log(run: Path, clips: Path) -> None:
    measured = [row["top1"] for row in rows(run, "val")]
    best, last = (
        read_checkpoint(run / f"{n}.safetensors").metrics["val"] for n in ("best", "last")
    )
    assert last["top1"] == measured[-1]
    assert best["top1"] == max(measured)
    assert best["epoch"] == 10 - measured[::-1].index(max(measured))  # the later of equals
    # and evaluation from the file gives the number that the run printed
    result = evaluate_checkpoints([str(run / "last.safetensors")], str(clips), workers=0)
    assert result is not None
    assert result.top(1).value == pytest.approx(last["top1"])
    assert result.mean_class.value == pytest.approx(last["mean_class"])


def test_the_log_counts_epochs_steps_and_rates(run: Path) -> None:
    trained = rows(run, "train")
    assert [row["epoch"] for row in trained] == list(range(1, 11))
    assert [row["step"] for row in trained] == [3 * k for k in range(1, 11)]
    assert [row["step"] for row in rows(run, "val")] == [3 * k for k in range(1, 11)]
    assert all(0 <= row["waiting"] <= 1 and row["clips_per_second"] > 0 for row in trained)
    assert trained[0]["lr"] > trained[5]["lr"] > trained[9]["lr"] > 0


def test_scalars_for_tensorboard(run: Path) -> None:
    pytest.importorskip("tensorboard")
    (file,) = (run / "tensorboard").iterdir()
    content = file.read_bytes()
    assert b"train/loss" in content
    assert b"val/top1" in content


def test_a_run_on_every_device(clips: Path, tmp_path: Path, device: torch.device) -> None:
    """It trains, resumes, is evaluated and predicts."""
    folder, recipe = tmp_path / "run", tiny(clips, device=device.type, epochs=2)
    assert train(recipe, folder).finished
    assert train(recipe, folder, resume=True).finished
    result = evaluate_checkpoints([str(folder)], str(clips), device=device.type, workers=0)
    assert result is not None
    prediction = Recognizer.load(folder, device.type).predict(clips / "val/rising/0.mp4")
    assert prediction.label in result.classes


def test_messages(clips: Path, tmp_path: Path, said: io.StringIO) -> None:
    outcome = train(tiny(clips, epochs=1, lr_batch=6), tmp_path / "r")
    text = said.getvalue()
    assert outcome.finished
    assert outcome.epoch == 1
    assert outcome.best == read_checkpoint(tmp_path / "r").metrics["val"]
    for words in (
        "data: a folder per class in train/ and val/",
        "model: smnet_resnet18, 0.18 M parameters, 2 segments of 32 x 32; 3 classes;"
        " clips: train 9, val 6; 1 x cpu",
        "weights: random",
        "lr 0.005 = 0.01 x 3/6 (sgd, clips per step)",
        "mirror: on, no class name tells left from right",
        "epoch 1/1",
        "val top-1",
    ):
        assert words in text


# --- Reproducibility.


def test_the_seed_decides_everything(clips: Path, tmp_path: Path) -> None:
    for name, changes in {"a": {}, "b": {"workers": 2}, "c": {"seed": 1}}.items():
        train(tiny(clips, mixup=0.4, **changes), tmp_path / name)
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert same(a, b)
    assert not same(a, c)


def test_another_batch_another_result(clips: Path, tmp_path: Path) -> None:
    train(tiny(clips, epochs=1), tmp_path / "a")
    train(tiny(clips, epochs=1, batch=4), tmp_path / "b")
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_accumulated_gradients_are_those_of_the_big_batch(clips: Path, tmp_path: Path) -> None:
    common = {**PLAIN, "epochs": 2, "freeze_norm": True, "clip_grad": 0.0, "warmup": 0.0}
    for name, batch, accumulate in (("big", 8, 1), ("small", 4, 2), ("no", 4, 1)):
        recipe = tiny(clips, **common, batch=batch, accumulate=accumulate, lr_batch=8)
        train(recipe, tmp_path / name)
    big, small, no = (weights(tmp_path / name) for name in ("big", "small", "no"))
    for key, value in big.items():
        assert torch.allclose(value, small[key], rtol=1e-4, atol=1e-6), key
    assert not torch.allclose(big["conv1.weight"], no["conv1.weight"], rtol=1e-4, atol=1e-6)
    assert [row["lr"] for row in rows(tmp_path / "big", "train")] == [
        row["lr"] for row in rows(tmp_path / "small", "train")
    ]


def test_the_last_group_of_an_epoch_may_be_smaller(clips: Path, tmp_path: Path) -> None:
    train(tiny(clips, batch=2, accumulate=3, epochs=2), tmp_path / "r")  # 4 batches: 3 and 1
    assert [row["step"] for row in rows(tmp_path / "r", "train")] == [2, 4]


def test_frozen_norms_keep_their_statistics(clips: Path, tmp_path: Path) -> None:
    for frozen in (True, False):
        train(tiny(clips, **PLAIN, epochs=1, freeze_norm=frozen), tmp_path / str(frozen))
    frozen, free = (weights(tmp_path / str(f)) for f in (True, False))
    assert torch.equal(frozen["bn1.running_mean"], torch.zeros(8))
    assert frozen["bn1.num_batches_tracked"] == 0
    assert not torch.equal(free["bn1.running_mean"], torch.zeros(8))
    assert not torch.equal(frozen["bn1.weight"], torch.ones(8))  # they still learn


def test_freeze_norms_means_all_of_them() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.BatchNorm2d(2), nn.Dropout()))
    freeze_norms(model.train())
    assert [m.training for m in model.modules()] == [True, False, True, False, True]


def test_the_moving_average_is_saved(clips: Path, tmp_path: Path) -> None:
    """EMA by hand: with one step an epoch, last.safetensors of epoch n follows from epoch n's
    weights in resume.pt and the average of before."""
    averages, raws = [], []
    for epochs in (1, 2, 3):
        recipe = tiny(
            clips, **PLAIN, epochs=epochs, batch=9, ema=0.75, schedule="constant", warmup=0.0
        )
        train(recipe, tmp_path / str(epochs))
        averages.append(weights(tmp_path / str(epochs)))
        saved = torch.load(tmp_path / str(epochs) / "resume.pt", weights_only=True)
        raws.append(saved["model"])
    assert torch.equal(averages[0]["fc.weight"], raws[0]["fc.weight"])
    for n in (1, 2):
        for key in ("fc.weight", "conv1.weight", "bn1.running_var"):
            expected = 0.75 * averages[n - 1][key] + 0.25 * raws[n][key]
            assert torch.allclose(averages[n][key], expected, rtol=1e-5, atol=1e-7)
        assert not torch.equal(averages[n]["fc.weight"], raws[n]["fc.weight"])


def test_the_validated_model_is_the_saved_model(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = validation_module.score_clips
    validated = []

    def watch(backend: TorchBackend, *args: Any, **options: Any) -> Any:
        assert not backend.model.training
        validated.append({k: v.clone() for k, v in backend.model.state_dict().items()})
        return score(backend, *args, **options)

    monkeypatch.setattr(validation_module, "score_clips", watch)
    train(tiny(clips, ema=0.9), tmp_path / "r")
    assert len(validated) == 2
    assert same(validated[-1], weights(tmp_path / "r"))


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adamw", "label_smoothing": 0.1},
        {"cutmix": 1.0, "mixup": 0.2},
        {"amp": "bf16"},
        {"channels_last": False},
        {"schedule": "step", "milestones": [1]},
        {"schedule": "constant", "warmup": 0.0},
        {"crop": "resized", "sampling": "dense"},
        {"deterministic": True},
        {"batch": 50},
        {"model": "tdn_resnet18", "sampling": "tdn"},
        {"options": {"width": 8, "modality": "rgbdiff"}},
    ],
)
def test_the_choices_run(clips: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    try:
        outcome = train(tiny(clips, **changes), tmp_path / "r")
    finally:
        torch.use_deterministic_algorithms(False)
    assert outcome.finished
    assert all(torch.isfinite(v).all() for v in weights(tmp_path / "r").values())
    load(tmp_path / "r")


def test_mirrored_sides_are_said(tmp_path: Path, said: io.StringIO) -> None:
    names = ("Turning left", "Turning right", "standing")
    data = write_clips(tmp_path / "d", {"train": 1}, names)
    plan, note = training_plan(tiny(data), read_clips(data))
    assert plan.mirror == (1, 0, 2)
    assert note == "mirror: on, labels swap: Turning left <-> Turning right"
    shutil.move(data / "train" / "Turning right", data / "train" / "Turning rong")
    plan, note = training_plan(tiny(data), read_clips(data))
    assert plan.mirror is None
    assert note == "mirror: off, no class is the mirror image of 'Turning left'"
    plan, note = training_plan(tiny(data, flip="off"), read_clips(data))
    assert (plan.mirror, note) == (None, "mirror: off")


# --- Errors.


def test_a_loss_that_is_not_finite_stops_with_all_that_is_known(
    clips: Path, tmp_path: Path
) -> None:
    recipe = tiny(clips, lr=1e30, clip_grad=0.0, warmup=0.0, schedule="constant")
    with pytest.raises(UserError) as caught:
        train(recipe, tmp_path / "r")
    text = str(caught.value)
    assert "the loss is not finite at step " in text
    assert "(lr 1e+30, process 0)" in text
    named = [str(p) for p in clips.rglob("train/**/*.mp4") if str(p) in text]
    assert len(named) == 3  # the batch
    assert "Lower lr" in text
    assert not list((tmp_path / "r").glob("*.safetensors"))


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """9 clips in train/, one of them unreadable, and 6 in val/, one of them unreadable."""
    data = write_clips(tmp_path / "damaged", {"train": 3, "val": 2})
    for split in ("train", "val"):
        (data / split / "rising" / "1.mp4").write_bytes(b"not a film")
    return data


def test_an_unreadable_clip_ends_the_run(damaged: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rising/1\.mp4: .*on_error=skip trains without"):
        train(tiny(damaged), tmp_path / "r")


def test_an_unreadable_clip_is_counted_with_skip(
    damaged: Path, tmp_path: Path, said: io.StringIO
) -> None:
    assert train(tiny(damaged, on_error="skip"), tmp_path / "r").finished
    assert [row["skipped"] for row in rows(tmp_path / "r", "train")] == [1, 1]
    assert "1 unreadable clips skipped" in said.getvalue()
    for row in rows(tmp_path / "r", "val"):
        assert (row["clips"], row["unreadable"]) == (6, 1)
        assert row["top1"] <= 5 / 6


def test_no_readable_training_clip(damaged: Path, tmp_path: Path) -> None:
    for clip in (damaged / "train").rglob("*.mp4"):
        clip.write_bytes(b"not a film")
    with pytest.raises(UserError, match=r"epoch 1: no training clip could be read"):
        train(tiny(damaged, on_error="skip"), tmp_path / "r")
    assert not list((tmp_path / "r").glob("*.safetensors"))


def test_batches_of_unreadable_clips_only(damaged: Path, tmp_path: Path) -> None:
    recipe = tiny(damaged, on_error="skip", batch=1, accumulate=1, model="tsn_resnet18")
    assert train(recipe, tmp_path / "r").finished


def test_batches_of_unreadable_clips_only_in_half_precision(
    damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss scaler objects to a step without gradients, the first one above all."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    monkeypatch.setattr(train_module, "mixed_precision", lambda *_: (nullcontext, scaler))
    recipe = tiny(damaged, on_error="skip", batch=1, accumulate=1, model="tsn_resnet18")
    for seed in range(3):
        assert train(recipe.model_copy(update={"seed": seed}), tmp_path / str(seed)).finished


def test_without_a_validation_split_the_last_is_the_best(tmp_path: Path, said: io.StringIO) -> None:
    data = tmp_path / "list.csv"
    lines = ["path,label,split"]
    for number, label in enumerate(("up", "down") * 2):
        write_video(tmp_path / f"{number}.mp4", moving_frames(8, 32, 32, seed=number))
        lines.append(f"{number}.mp4,{label},train")
    data.write_text("\n".join(lines) + "\n")
    outcome = train(tiny(data, batch=2), tmp_path / "r")
    assert outcome.best == {"epoch": 2, "top1": None, "clips": 0}
    assert "validation: no clips" in said.getvalue()
    assert same(weights(tmp_path / "r", "best"), weights(tmp_path / "r", "last"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"model": "smnet_resnet19"},
            "no model is called 'smnet_resnet19'; did you mean smnet_res",
        ),
        ({"options": {"widht": 8}}, "has no option 'widht'; did you mean 'width'"),
        ({"options": {"width": "wide"}}, "width must be a multiple of 8 from 8 to 512, not 'wide'"),
        ({"sampling": "unifrom"}, "no sampling strategy 'unifrom'; did you mean 'uniform'"),
        ({"model": "tdn_resnet18", "sampling": "mmaction2"}, "one frame per segment"),
        ({"device": "gpu"}, "no device is called 'gpu'"),
        ({"device": "meta"}, "device=meta: cannot be used here"),
        ({"amp": "fp16"}, "amp=fp16 needs a GPU"),
        ({"weights": "/nowhere/x.pth"}, "weights=/nowhere/x.pth: .*no such file"),
        ({"data": "/nowhere"}, "cannot open '/nowhere'"),
        ({"data": None}, "no data: give --data DIR"),
        ({"format": "coco"}, "no annotation format 'coco'"),
    ],
)
def test_refusals_come_before_anything_is_written(
    clips: Path, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        train(tiny(**{"data": str(clips), **changes}), tmp_path / "r")
    assert not list(tmp_path.iterdir())


def test_a_gpu_that_is_not_there(clips: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(UserError, match="this PyTorch sees no GPU; use device=cpu"):
        train(tiny(clips, device="cuda"), tmp_path / "r")


def test_a_folder_that_holds_a_run_is_not_written_over(run: Path, clips: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in run.iterdir()}
    with pytest.raises(UserError, match="contains a run already; resume it with: smnet"):
        train(tiny(clips), run)
    assert {p: p.stat().st_mtime_ns for p in run.iterdir()} == before


def test_a_disk_that_fills_up_leaves_the_checkpoints_of_before(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save: Callable[..., None] = train_module.save_checkpoint
    calls = []

    def save_until_full(path: Path, checkpoint: Any) -> None:
        calls.append(path)
        if len(calls) > 2:
            raise UserError(f"cannot write {path}: No space left on device")
        save(path, checkpoint)

    monkeypatch.setattr(train_module, "save_checkpoint", save_until_full)
    with pytest.raises(UserError, match="No space left on device"):
        train(tiny(clips), tmp_path / "r")
    monkeypatch.undo()
    assert not [p for p in (tmp_path / "r").iterdir() if p.name.startswith(".")]
    assert read_checkpoint(tmp_path / "r").metrics["val"]["epoch"] == 1
    assert train(tiny(clips), tmp_path / "r", resume=True).finished  # with room again
    train(tiny(clips), tmp_path / "whole")
    assert same(weights(tmp_path / "r"), weights(tmp_path / "whole"))


# --- Parts.


def test_meter_by_hand() -> None:
    meter = Meter()
    meter.add(2.0, 1, 2)
    meter.add(1.0, 4, 4)
    meter.seconds, meter.waited = 3.0, 0.75
    summary = meter.summary()
    assert summary["loss"] == pytest.approx((2 * 2 + 1 * 4) / 6)
    assert summary["top1"] == pytest.approx(5 / 6)
    assert summary["clips_per_second"] == pytest.approx(2.0)
    assert meter.summary(world=4)["clips_per_second"] == pytest.approx(8.0)
    assert summary["waiting"] == pytest.approx(0.25)
    assert meter.note(1) == "loss 1.333  top-1 83.3%  2.0 clips/s  waiting for data 25%"
    assert Meter(*astuple(meter)).summary() == summary
    assert Meter().summary()["loss"] == 0


def test_meters_of_all_processes() -> None:
    class Two(Processes):
        def gather(self, item: Any) -> list[Any]:
            return [item, (3.0, 1, 3, 2, 1.0, 0.25, 1)]

    mine = Meter(1.0, 2, 5, 0, 3.0, 0.75, 4)
    both = mine.of_all(Two(torch.device("cpu"), 0, 2))
    assert astuple(both) == (4.0, 3, 8, 2, 2.0, 0.5, 5)
    assert both.summary()["clips_per_second"] == pytest.approx(4.0)
    assert mine.of_all(Processes(torch.device("cpu"))) == mine


def test_grouped() -> None:
    groups = [group for group, _ in grouped(list("abcdefg"), 3)]  # type: ignore[arg-type]
    assert groups == [["a", "b", "c"], ["d", "e", "f"], ["g"]]
    assert list(grouped([], 3)) == []


def test_a_new_run_overwrites_nothing(clips: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "recipe.yaml").write_text("# mine\nepochs: 2\n")
    with pytest.raises(UserError, match=r"recipe\.yaml: exists and was not written by a run"):
        train(tiny(clips), own)
    assert (own / "recipe.yaml").read_text() == "# mine\nepochs: 2\n"
    (own / "recipe.yaml").unlink()
    (own / "best.safetensors").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"contains a best\.safetensors, which would be"):
        train(tiny(clips), own)
    assert os.listdir(own) == ["best.safetensors"]


def test_a_run_that_failed_in_its_first_epoch_can_start_again(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not finite"):
        train(tiny(clips, lr=1e30, clip_grad=0, warmup=0), tmp_path / "r")
    assert train(tiny(clips, epochs=1), tmp_path / "r").finished


def test_a_run_folder_inside_the_data_set(clips: Path, tmp_path: Path) -> None:
    data = shutil.copytree(clips, tmp_path / "d")
    with pytest.raises(UserError, match=r"inside the data set .*/d, where every folder is a class"):
        train(tiny(data), data / "runs" / "one")
    assert sorted(os.listdir(data)) == ["train", "val"]


def test_resuming_with_other_classes(clips: Path, tmp_path: Path) -> None:
    data = shutil.copytree(clips, tmp_path / "d")
    train(tiny(data, epochs=1), tmp_path / "r")
    for split in ("train", "val"):
        (data / split / "falling").rename(data / split / "zzz")  # now the last of the classes
    with pytest.raises(UserError, match="clips of 3 classes with other paths or labels"):
        train(tiny(data, epochs=1), tmp_path / "r", resume=True)


def test_resuming_with_moved_data(clips: Path, tmp_path: Path) -> None:
    data = shutil.copytree(clips, tmp_path / "d")
    train(tiny(data, epochs=1), tmp_path / "r")
    data = data.rename(tmp_path / "elsewhere")
    assert train(tiny(data, epochs=1), tmp_path / "r", resume=True).finished


def test_resuming_without_some_clips(clips: Path, tmp_path: Path, said: io.StringIO) -> None:
    data = shutil.copytree(clips, tmp_path / "d")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Processes, "any", lambda self, flag: True)
        assert not train(tiny(data, on_error="skip"), tmp_path / "r").finished
    (data / "train" / "falling" / "0.mp4").unlink()
    assert train(tiny(data, on_error="skip"), tmp_path / "r", resume=True).finished
    assert "before 9 training and 6 validation clips of 3 classes, now 8" in said.getvalue()
    assert read_checkpoint(tmp_path / "r" / "last.safetensors").metrics["data"]["train"] == 8


def test_a_step_has_no_more_clips_than_an_epoch(
    clips: Path, tmp_path: Path, said: io.StringIO
) -> None:
    # Of 9 clips, two batches of four.
    train(tiny(clips, batch=4, accumulate=7, lr_batch=8, epochs=1), tmp_path / "r")
    assert "lr 0.01 = 0.01 x 8/8" in said.getvalue()


def test_unreadable_validation_clips_are_reported(tmp_path: Path, said: io.StringIO) -> None:
    data = write_clips(tmp_path / "d", {"train": 1, "val": 1})
    (data / "val" / "rising" / "0.mp4").write_bytes(b"nothing")
    train(tiny(data, epochs=1, on_error="skip"), tmp_path / "r")
    assert ", 1 of 3 clips unreadable: counted as wrong" in said.getvalue()


def test_an_epoch_with_scores_that_are_not_finite_is_never_best(
    clips: Path, tmp_path: Path, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = validation_module.score_clips

    def broken(*args: Any, **options: Any) -> Any:
        scores, *rest = score(*args, **options)
        scores[:2] = np.nan
        return (scores, *rest)

    monkeypatch.setattr(validation_module, "score_clips", broken)
    outcome = train(tiny(clips, epochs=1), tmp_path / "r")
    assert ", 2 of 6 clips without finite scores: counted as wrong, so" in said.getvalue()
    assert "(best)" not in said.getvalue()
    assert "no epoch had finite validation scores" in said.getvalue()
    assert rows(tmp_path / "r", "val")[0]["not_finite"] == 2
    assert outcome.best is None
    assert outcome.checkpoint == tmp_path / "r" / "last.safetensors"
    assert not (tmp_path / "r" / "best.safetensors").exists()


def test_weights_that_are_not_finite_after_the_last_step_end_the_run(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = train_module.update_weights

    def overflow(learner: Any, recipe: Any) -> None:
        update(learner, recipe)
        learner.model.fc.bias.data.fill_(torch.inf)

    monkeypatch.setattr(train_module, "update_weights", overflow)
    with pytest.raises(UserError, match=r"epoch 1: the weights are not finite .*Lower lr"):
        train(tiny(clips, epochs=1, batch=9), tmp_path / "r")
    assert not (tmp_path / "r" / "resume.pt").exists()


def test_a_batch_normalisation_of_one_value(clips: Path, tmp_path: Path) -> None:
    recipe = tiny(clips, model="tsn_resnet18", batch=1, segments=1, epochs=1)
    with pytest.raises(UserError, match="one value per channel from batch=1, segments=1 and size="):
        train(recipe, tmp_path / "r")


@pytest.mark.parametrize(
    ("top1", "not_finite", "best", "verdict"),
    [
        (0.5, 0, None, "best"),
        (0.6, 0, 0.5, "best"),
        (0.5, 0, 0.5, "equals the best"),
        (0.4, 0, 0.5, ""),
        (0.6, 1, 0.5, ""),
        (0.6, 1, None, ""),
    ],
)
def test_best_epoch(top1: float, not_finite: int, best: float | None, verdict: str) -> None:
    measured = {"top1": top1, "clips": 6, "not_finite": not_finite}
    before = None if best is None else {"top1": best}
    assert compare_with_best(measured, before) == verdict


def test_a_class_name_that_is_not_utf8(clips: Path, tmp_path: Path) -> None:
    data = shutil.copytree(clips, tmp_path / "d")
    for split in ("train", "val"):
        (data / split / "falling").rename(data / split / os.fsdecode(b"f\xff"))
    with pytest.raises(UserError, match="is not valid UTF-8, so a checkpoint cannot store it"):
        train(tiny(data), tmp_path / "r")
    assert not (tmp_path / "r").exists()


# --- Early stopping.


def test_a_run_ends_when_patience_does(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: io.StringIO
) -> None:
    accuracy = iter([0.2, 0.5, 0.5, 0.4, 0.9])
    plain = train_module.validation_metrics

    def scripted(*args: Any) -> dict[str, Any]:
        return {**plain(*args), "top1": next(accuracy)}

    monkeypatch.setattr(train_module, "validation_metrics", scripted)
    recipe = tiny(clips, epochs=9, patience=2)
    outcome = train(recipe, tmp_path / "r")
    assert (outcome.finished, outcome.epoch) == (True, 4)
    assert outcome.best is not None
    assert outcome.best["epoch"] == 3  # the later of equals is kept; only a rise counts as progress
    assert "stopped early: no better validation top-1 in 2 epochs" in said.getvalue()
    again = train(recipe, tmp_path / "r", resume=True)
    assert (again.finished, again.epoch) == (True, 4)


def test_patience_needs_validation_clips(tmp_path: Path) -> None:
    data = write_clips(tmp_path / "clips", {"train": 1})
    with pytest.raises(UserError, match="patience=2 needs validation clips"):
        train(tiny(data, patience=2, batch=3), tmp_path / "r")
    assert not (tmp_path / "r").exists()
