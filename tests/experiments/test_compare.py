"""Many models under one recipe, in one table."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from smnet.checkpoints.file import Checkpoint, save_checkpoint
from smnet.errors import UserError
from smnet.experiments import compare as compare_module
from smnet.experiments.compare import compare, latencies
from smnet.experiments.study import Candidate, read_models
from smnet.experiments.table import Row
from smnet.models import create_model, multiply_adds, parameter_count
from smnet.recipes.recipe import Recipe, read_recipe
from smnet.training.loop import train
from tests.conftest import tiny, write_clips


def small(data: Path | str, **changes: Any) -> Recipe:
    """The tiny recipe with options that every family has."""
    return tiny(data, options={"width": 8}, **changes)


def test_latencies_are_times() -> None:
    models = [create_model("tsn_resnet18", 3, 1, width=8) for _ in range(2)]
    times = latencies(models)
    assert len(times) == 2
    assert all(0 < t < 5 for t in times)


def test_latencies_are_measured_with_channels_last() -> None:
    model = create_model("smnet_resnet18", 3, 2, width=8)
    inputs = []
    model.layer2[0].temporal.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    latencies([model])
    measured = [x for x in inputs if x.shape[-1] == 56]  # folding BN runs it on a smaller clip
    assert measured
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in measured)


@pytest.fixture(scope="module")
def compared(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Row]]:
    out = tmp_path_factory.mktemp("compare") / "out"
    return out, compare(small(clips, epochs=1), VARIANTS, 2, out)


VARIANTS = [
    Candidate("TSN", "tsn_resnet18"),
    Candidate("SMNet, last", "smnet_resnet18", {"blocks": "last"}),
]
TSN, SMNET_LAST = "tsn-resnet18", "smnet-resnet18-blocks-last"


def test_every_candidate_with_every_seed(compared: tuple[Path, list[Row]], clips: Path) -> None:
    out, rows = compared
    runs = {f"{name}-seed{seed}" for name in (TSN, SMNET_LAST) for seed in (0, 1)}
    assert runs <= {p.name for p in out.iterdir()}
    assert [row.label for row in rows] == ["TSN", "SMNet, last"]
    for row, variant in zip(rows, VARIANTS, strict=True):
        model = create_model(variant.model, 3, 2, width=8, **variant.options)
        assert row.parameters == parameter_count(model)
        assert row.gmacs == pytest.approx(multiply_adds(model, size=32) / 1e9)
        assert len(row.top1) == len(row.seconds) == len(row.learned) == 2
        assert all(0 <= share <= 1 for share in row.learned)
        assert row.latency > 0
    for name in runs:
        recipe = (out / name / "recipe.yaml").read_text()
        assert f"seed: {name[-1]}\n" in recipe
        assert "width: 8" in recipe  # the variant's options join the recipe's
    assert json.loads((out / "table.json").read_text())["seeds"] == 2


def test_the_same_command_resumes(
    compared: tuple[Path, list[Row]],
    clips: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = shutil.copytree(compared[0], tmp_path / "out")
    shutil.rmtree(out / f"{SMNET_LAST}-seed1")
    began: list[tuple[str, bool]] = []
    train = compare_module.train

    def watch(recipe: Recipe, folder: Path, *, resume: bool) -> Any:
        began.append((folder.name, resume))
        return train(recipe, folder, resume=resume)

    monkeypatch.setattr(compare_module, "train", watch)
    again = compare(small(clips, epochs=1), VARIANTS, 2, out)
    assert began == [(f"{SMNET_LAST}-seed1", False)]  # the others are finished
    assert [row.top1 for row in again] == [row.top1 for row in compared[1]]


@pytest.mark.parametrize("kept", ["resume.pt", "last.safetensors"])
def test_runs_on_other_data_are_refused(kept: str, tmp_path: Path) -> None:
    data = write_clips(tmp_path / "d", {"train": 1, "val": 1})
    compare(small(data, epochs=1), VARIANTS[:1], 1, tmp_path / "out")
    if kept == "last.safetensors":
        (tmp_path / "out" / f"{TSN}-seed0" / "resume.pt").unlink()
    before = (tmp_path / "out" / "table.json").read_bytes()
    (data / "val" / "falling" / "1.mp4").write_bytes((data / "val/rising/0.mp4").read_bytes())
    says = "before 3 training and 3 validation clips of 3 classes, now 3 training and 4 validation"
    with pytest.raises(UserError, match=says):
        compare(small(data, epochs=1), VARIANTS, 1, tmp_path / "out")
    assert (tmp_path / "out" / "table.json").read_bytes() == before


@pytest.mark.parametrize("changed", ["data", "recipe", "log", "checkpoint", "recipe.yaml"])
def test_existing_runs_are_checked_before_the_first_run(
    compared: tuple[Path, list[Row]],
    clips: Path,
    tmp_path: Path,
    changed: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = shutil.copytree(compared[0], tmp_path / "out")
    run, before = out / f"{TSN}-seed0", (out / "table.md").read_bytes()
    recipe = small(clips, epochs=1)
    says = rf"{TSN}-seed0: the run there is damaged \(.*\); remove that folder"
    if changed == "data":
        data = shutil.copytree(clips, tmp_path / "d")
        shutil.copy(data / "val/rising/0.mp4", data / "val/falling/9.mp4")
        recipe, says = small(data, epochs=1), "the data set has changed"
    elif changed == "recipe":
        recipe, says = small(clips, epochs=1, lr=0.3), "contains a run with another recipe"
    elif changed == "log":
        (run / "log.jsonl").write_bytes((run / "log.jsonl").read_bytes()[:-20])
    elif changed == "checkpoint":
        (run / "last.safetensors").write_bytes((run / "last.safetensors").read_bytes()[:-20])
    else:
        (run / changed).unlink()
    monkeypatch.setattr(compare_module, "train", None)
    with pytest.raises(UserError, match=says):
        compare(recipe, [Candidate("new", "stm_resnet18"), *VARIANTS], 2, out)
    assert (out / "table.md").read_bytes() == before


def test_a_missing_checkpoint(
    compared: tuple[Path, list[Row]], clips: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(compared[0], tmp_path / "out")
    (out / f"{TSN}-seed0" / "last.safetensors").unlink()
    with pytest.raises(UserError, match=r"the run there is damaged .*; remove that folder"):
        compare(small(clips, epochs=1), VARIANTS, 2, out)


def test_a_complete_table_is_not_replaced_by_a_shorter_one(
    compared: tuple[Path, list[Row]],
    clips: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = shutil.copytree(compared[0], tmp_path / "out")
    written: list[int] = []
    monkeypatch.setattr(compare_module, "write_tables", lambda rows, *_: written.append(len(rows)))
    compare(small(clips, epochs=1), [*VARIANTS, Candidate("TSM", "tsm_resnet18")], 1, out)
    assert written == [3, 3]  # without and with the latencies


def test_a_signal_after_the_last_step_ends_the_comparison(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, began = compare_module.train, []

    def interrupted(recipe: Recipe, folder: Path, *, resume: bool) -> Any:
        began.append(folder.name)
        return replace(train(recipe, folder, resume=resume), stop_requested=True)

    monkeypatch.setattr(compare_module, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(small(clips, epochs=1), VARIANTS, 1, tmp_path / "out")
    assert began == [f"{TSN}-seed0"]


def test_finished_runs_need_no_resume_file(
    compared: tuple[Path, list[Row]], clips: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(compared[0], tmp_path / "out")
    for file in out.glob("*/resume.pt"):
        file.unlink()
    last = out / f"{TSN}-seed0" / "last.safetensors"
    before = last.read_bytes()
    with pytest.raises(UserError, match=r"run with another recipe \(lr: 0\.01 then, 0\.3 now\)"):
        compare(small(clips, epochs=1, lr=0.3), VARIANTS, 2, out)
    again = compare(small(clips, epochs=1), VARIANTS, 2, out)
    assert [row.top1 for row in again] == [row.top1 for row in compared[1]]
    assert last.read_bytes() == before
    assert not list(out.glob("*/resume.pt"))


def test_a_data_set_without_validation_clips(tmp_path: Path) -> None:
    data = write_clips(tmp_path / "d", {"train": 1})
    rows = [f"{path},{path.parent.name},train" for path in sorted(data.rglob("*.mp4"))]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    with pytest.raises(UserError, match="has no validation clips to compare models on"):
        compare(small(tmp_path / "list.csv"), VARIANTS, 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unreadable_clips_are_reported(tmp_path: Path) -> None:
    data = write_clips(tmp_path / "d", {"train": 1, "val": 1})
    (data / "val" / "rising" / "0.mp4").write_bytes(b"nothing")
    (row,) = compare(small(data, epochs=1, on_error="skip"), VARIANTS[:1], 1, tmp_path / "out")
    assert row.not_read == 1
    assert "; 1 validation clips could not be read" in (tmp_path / "out" / "table.md").read_text()


def test_the_folder_is_outside_the_data_and_held_once(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lies inside the data set .* choose another --out"):
        compare(small(clips), VARIANTS, 1, clips / "out")
    assert not (clips / "out").exists()
    script = (
        "import sys, pathlib, smnet.files as f\n"
        "with f.alone_in(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "out")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="another process is writing there"):
            compare(small(clips), VARIANTS, 1, tmp_path / "out")
        with pytest.raises(UserError, match="another process is writing there"):
            train(small(clips), tmp_path / "out")
        other.communicate(b"", timeout=60)
    assert not (tmp_path / "out").exists()


def test_a_table_of_another_program_stays(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text('{"mine": 1}')
    with pytest.raises(UserError, match=r"table\.json exists and was not written by smnet"):
        compare(small(clips), read_models("tsn_resnet18"), 1, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["table.json"]


def test_the_same_network_twice(clips: Path, tmp_path: Path) -> None:
    wide = Candidate("wide", "tsn_resnet18", {"width": 8})  # as the recipe has it
    with pytest.raises(UserError, match="TSN and wide are the same"):
        compare(small(clips), [VARIANTS[0], wide], 1, tmp_path / "out")


def test_other_workers_are_the_same_run(
    compared: tuple[Path, list[Row]], clips: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(compared[0], tmp_path / "out")
    again = compare(small(clips, epochs=1, workers=1), VARIANTS[:1], 2, out)
    assert again[0].top1 == compared[1][0].top1


def test_runs_with_another_recipe_are_refused(
    compared: tuple[Path, list[Row]], clips: Path
) -> None:
    said = rf"{TSN}-seed0: contains a run with another recipe \(epochs: 1 then, 2 now\)"
    with pytest.raises(UserError, match=said):
        compare(small(clips, epochs=2), VARIANTS, 1, compared[0])


@pytest.mark.parametrize(
    ("variant", "says"),
    [
        (Candidate("b", "smnet_resnet19"), "b: no model is called 'smnet_resnet19'"),
        (Candidate("b", "smnet_resnet18", {"gruops": 4}), "b: .*no option 'gruops'.*'groups'"),
        (Candidate("b", "tsn_resnet18"), "TSN and b are the same model: tsn_resnet18"),
    ],
)
def test_an_invalid_candidate_is_found_before_the_first_run(
    clips: Path, tmp_path: Path, variant: Candidate, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        compare(small(clips), [VARIANTS[0], variant], 1, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_weights_that_do_not_fit_are_found_before_the_first_run(
    compared: tuple[Path, list[Row]], clips: Path, tmp_path: Path
) -> None:
    weights = str(compared[0] / f"{SMNET_LAST}-seed0")
    recipe = small(clips, epochs=1, weights=weights)
    with pytest.raises(UserError, match=r"^TSN: weights=.* does not fit tsn_resnet18"):
        compare(recipe, VARIANTS[::-1], 1, tmp_path / "out")
    recipe = small(clips, epochs=1, weights="nofile.pth")
    with pytest.raises(UserError, match=r"^SMNet, last: weights=nofile.pth"):
        compare(recipe, VARIANTS[::-1], 1, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_finished_runs_do_not_need_their_start_weights(clips: Path, tmp_path: Path) -> None:
    weights = tmp_path / "start.safetensors"
    begun = create_model("tsn_resnet18", 3, 2, width=8)
    save_checkpoint(weights, Checkpoint(begun.spec, begun.state_dict()))
    recipe = small(clips, epochs=1, weights=str(weights))
    first = compare(recipe, VARIANTS[:1], 1, tmp_path / "out")
    weights.unlink()
    assert compare(recipe, VARIANTS[:1], 1, tmp_path / "out")[0].top1 == first[0].top1


def test_each_run_is_fine_tuned_from_its_own(
    compared: tuple[Path, list[Row]], clips: Path, tmp_path: Path
) -> None:
    recipe = small(clips, epochs=1, weights=str(compared[0]))
    compare(recipe, VARIANTS, 2, tmp_path / "out")
    for name in (TSN, SMNET_LAST):
        for seed in (0, 1):
            run = f"{name}-seed{seed}"
            said = read_recipe(str(tmp_path / "out" / run / "recipe.yaml")).weights
            assert said == str(compared[0] / run / "last.safetensors")
    table = (tmp_path / "out" / "table.md").read_text()
    assert f"weights from the same run in {compared[0].name}," in table


def test_a_run_that_the_other_comparison_lacks_is_found_before_the_first(
    compared: tuple[Path, list[Row]], clips: Path, tmp_path: Path
) -> None:
    recipe = small(clips, epochs=1, weights=str(compared[0]))
    with pytest.raises(UserError, match=f"that comparison has no finished run {TSN}-seed2"):
        compare(recipe, VARIANTS, 3, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_progress_is_reported(clips: Path, tmp_path: Path, said: io.StringIO) -> None:
    recipe = small(clips, epochs=1)
    compare(recipe, [Candidate("[TSN]", "tsn_resnet18")], 1, tmp_path / "out")
    assert "[TSN], seed 0: run 1 of 1 ─" in said.getvalue()
    said.seek(said.truncate(0))
    compare(recipe, VARIANTS, 2, tmp_path / "out")
    ruled = [line.strip(" ─") for line in said.getvalue().splitlines() if "run " in line]
    assert ruled[:2] == ["TSN, seed 0: run 1 of 4", "TSN, seed 1: run 2 of 4"]  # the first is done
    for line, number in zip(ruled[2:], (3, 4), strict=True):
        assert re.fullmatch(rf"SMNet, last, seed .: run {number} of 4, about [0-9.:]+ s left", line)


def test_an_unfinished_run_gives_no_start_weights(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: io.StringIO
) -> None:
    """Its checkpoint is there: one is written after every epoch."""
    began = []

    def stop_at_the_second(recipe: Recipe, folder: Path, *, resume: bool) -> Any:
        began.append(folder)
        outcome = train(recipe, folder, resume=resume)
        return outcome if len(began) < 2 else replace(outcome, finished=False, stop_requested=True)

    with monkeypatch.context() as patch:
        patch.setattr(compare_module, "train", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            compare(small(clips, epochs=1), VARIANTS, 1, tmp_path / "out")
    assert "the same command resumes the comparison" in said.getvalue()
    half = began[1] / "recipe.yaml"
    half.write_text(half.read_text().replace("epochs: 1\n", "epochs: 2\n"))
    assert (began[1] / "last.safetensors").is_file()
    recipe = small(clips, epochs=1, weights=str(tmp_path / "out"))
    with pytest.raises(UserError, match=f"that comparison has no finished run {began[1].name}"):
        compare(recipe, VARIANTS, 1, tmp_path / "tuned")
    (tmp_path / "out" / "table.json").unlink()  # as before the first row is done
    with pytest.raises(UserError, match="has no finished run"):
        compare(recipe, VARIANTS, 1, tmp_path / "tuned")


def test_all_on_another_trunk(clips: Path) -> None:
    names = compare_module.check_study(small(clips), VARIANTS, "resnet34")
    assert names == ["tsn_resnet34", "smnet_resnet34"]


def test_a_budget_in_minutes_is_refused(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"give epochs= to compare"):
        compare(small(clips, minutes=5), read_models("tsn_resnet18"), 1, tmp_path / "c")
    assert not (tmp_path / "c").exists()
