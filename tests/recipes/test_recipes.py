"""Every recipe of the package on a small tree in the official layout of its data set: a step of
training, and the test protocol. The annotations have the real forms, the clips are invented."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from smnet.checkpoints.file import Checkpoint, read_checkpoint, save_checkpoint
from smnet.data.annotations.read import read_clips
from smnet.data.annotations.source import ClipSource
from smnet.data.synthetic.motion import write_motion
from smnet.errors import UserError
from smnet.evaluation.evaluate import evaluate_checkpoints
from smnet.models import create_model
from smnet.recipes import presets
from smnet.recipes.recipe import Recipe, list_recipes, read_recipe
from smnet.training.loop import train
from tests.videos import moving_frames, write_video

pytestmark = pytest.mark.usefixtures("short_networks")


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def film(path: Path, number: int, size: tuple[int, int] = (40, 32), **how: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, moving_frames(18 + number % 5, *size, seed=number), **how)


def frame_folder(path: Path, number: int) -> None:
    path.mkdir(parents=True)
    for k, frame in enumerate(moving_frames(14 + number % 4, 42, 32, seed=number), start=1):
        Image.fromarray(frame).save(path / f"{k:05d}.jpg")


SOMETHING = (
    "Pushing something from left to right",
    "Holding something",
    "Pushing something from right to left",
)


def something_v1(root: Path) -> None:
    """The csv files as the makers ship them; frame folders in the folder of the archives."""
    prefix = "something-something-v1"
    write(root / f"{prefix}-labels.csv", *SOMETHING)
    ids = iter(range(1001, 1100))
    for split, each in (("train", 2), ("validation", 1)):
        rows = [(next(ids), name) for name in SOMETHING for _ in range(each)]
        write(root / f"{prefix}-{split}.csv", *(f"{clip};{name}" for clip, name in rows))
        for clip, _ in rows:
            frame_folder(root / "20bn-something-something-v1" / str(clip), clip)
    write(root / f"{prefix}-test.csv", "1099")
    frame_folder(root / "20bn-something-something-v1" / "1099", 99)


def something_v2(root: Path) -> None:
    prefix = "something-something-v2"
    numbers = {name: str(k) for k, name in enumerate(SOMETHING)}
    write(root / f"{prefix}-labels.json", json.dumps(numbers))
    ids = iter(range(2001, 2100))
    for split, each in (("train", 2), ("validation", 1)):
        entries = [
            {
                "id": str(next(ids)),
                "label": name.lower().replace("something", "a red box"),
                "template": name.replace("something", "[something]"),
                "placeholders": ["a red box"],
            }
            for name in SOMETHING
            for _ in range(each)
        ]
        write(root / f"{prefix}-{split}.json", json.dumps(entries))
        for entry in entries:
            number = int(str(entry["id"]))
            film(root / prefix / f"{number}.webm", number, (42, 32), codec="libvpx-vp9", fps=12)
    write(root / f"{prefix}-test.json", json.dumps([{"id": "2099"}]))
    film(root / prefix / "2099.webm", 99, (42, 32), codec="libvpx-vp9", fps=12)


def kinetics(root: Path) -> None:
    """The official lists, of whose videos some are gone from the net, and a folder per class."""
    names = ("petting animal (not cat)", "folding napkins", "air drumming")
    number = 0
    for split, each in (("train", 3), ("validate", 2)):
        lines = ["label,youtube_id,time_start,time_end,split,is_cc"]
        for name in names:
            for k in range(each):
                number += 1
                clip = f"-a_bcDefg{number:02d}"
                lines.append(f"{name},{clip},{10 * k},{10 * k + 10},{split},0")
                if not (name == names[2] and k == each - 1):  # the last one is gone
                    start, end = f"{10 * k:06d}", f"{10 * k + 10:06d}"
                    film(root / split / name / f"{clip}_{start}_{end}.mp4", number)
        write(root / f"{split}.csv", *lines)


def ucf101(root: Path) -> None:
    names = ("PlayingDhol", "HandstandPushups", "YoYo")
    lists = root / "ucfTrainTestlist"
    write(lists / "classInd.txt", *(f"{k} {name}" for k, name in enumerate(names, start=1)))
    for fold in (1, 2, 3):
        train, test = [], []
        for k, name in enumerate(names, start=1):
            for group in (1, 2, 3):
                # Spelt so in the official lists: the folder and the file differ.
                stem = name.replace("Handstand", "HandStand")
                clip = f"{name}/v_{stem}_g0{group}_c01.avi"
                if group == fold:
                    test.append(clip)
                else:
                    train.append(f"{clip} {k}")
        write(lists / f"trainlist0{fold}.txt", *train)
        write(lists / f"testlist0{fold}.txt", *test)
    for k, clip in enumerate(sorted({line.split()[0] for line in (*train, *test)})):
        film(root / "UCF-101" / clip, k, codec="mpeg4")


def hmdb51(root: Path) -> None:
    names = ("brush_hair", "cartwheel", "draw_sword")
    for number, name in enumerate(names):
        clips = [f"{name}_by_someone_({k})_f_cm_np1_ba_med_{k}.avi" for k in range(4)]
        for fold in (1, 2, 3):
            flags = [2 if k == fold - 1 else 0 if k == 3 else 1 for k in range(4)]
            lines = [f"{clip} {flag} " for clip, flag in zip(clips, flags, strict=True)]
            write(root / "testTrainMulti_7030_splits" / f"{name}_test_split{fold}.txt", *lines)
        for k, clip in enumerate(clips):
            film(root / "videos" / name / clip, 10 * number + k, codec="mpeg4")


def motion(root: Path) -> None:
    write_motion(root, train=20, val=10, size=32)


@dataclass(frozen=True)
class Layout:
    """A tree, and what must be read from it."""

    draw: Callable[[Path], None]
    format: str
    classes: tuple[str, ...]
    train: int
    val: int
    says: str = ""  # on mirroring
    missing: int = 0


LAYOUTS = {
    "ssv1": Layout(something_v1, "something-v1", SOMETHING, 6, 3, "mirror: off"),
    "ssv2": Layout(something_v2, "something-v2", SOMETHING, 6, 3, "mirror: off"),
    "k400": Layout(
        kinetics,
        "kinetics",
        ("air drumming", "folding napkins", "petting animal (not cat)"),
        8,
        6,
        "mirror: on",
        missing=1,
    ),
    "ucf101": Layout(
        ucf101, "ucf101", ("PlayingDhol", "HandstandPushups", "YoYo"), 6, 3, "mirror: on"
    ),
    "hmdb51": Layout(
        hmdb51, "hmdb51", ("brush_hair", "cartwheel", "draw_sword"), 6, 3, "mirror: on"
    ),
    "motion": Layout(motion, "folders", (), 20, 10, "mirror: on"),
}

SMALL = {
    "size": 32,
    "short_side": 36,
    "weights": "none",
    "epochs": 1,
    "warmup": 0,
    "workers": 0,
    "device": "cpu",
}
"""What is changed of a recipe, for the sake of time alone."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The tree of a data set, drawn once."""
    drawn: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in drawn:
            drawn[name] = tmp_path_factory.mktemp(name)
            LAYOUTS[name].draw(drawn[name])
        return drawn[name]

    return of


def small(recipe: str, data: Path, **changes: Any) -> Recipe:
    return read_recipe(recipe, ["options.width=8"], {**SMALL, "data": str(data), **changes})


def fine_tuning(recipe: str, data: Path, folder: Path, **changes: Any) -> Recipe:
    """The small recipe from a checkpoint in ``folder`` of other classes, as its ``about`` says."""
    alone = small(recipe, data)
    model = create_model(alone.model, 5, alone.segments, **alone.options)
    file = folder / "kinetics.safetensors"
    save_checkpoint(file, Checkpoint(model.spec, model.state_dict()))
    return small(recipe, data, weights=str(file), **changes)


PRESET_NAMES = [preset.name for preset in presets.PRESETS]


@pytest.mark.parametrize("name", sorted({*list_recipes()} - {*PRESET_NAMES[1:]}))
def test_a_step_of_training_and_the_test_protocol(
    name: str, tree: Callable[[str], Path], tmp_path: Path, said: io.StringIO
) -> None:
    data_set = "motion" if name in PRESET_NAMES else name.partition("-")[0]
    layout, data = LAYOUTS[data_set], tree(data_set)
    recipe = small(name, data)
    if "weights=CHECKPOINT" in recipe.about:
        with pytest.raises(UserError, match=r"freeze_norm.*weights=CHECKPOINT"):
            train(recipe, tmp_path / "r")
        recipe = fine_tuning(name, data, tmp_path)
    assert train(recipe, tmp_path / "r").finished
    log = [json.loads(line) for line in (tmp_path / "r" / "log.jsonl").read_text().splitlines()]
    assert log[0]["step"] == max(1, layout.train // recipe.batch)
    text = said.getvalue()
    assert layout.says in text
    assert f"clips: train {layout.train}, val {layout.val - layout.missing}" in text

    result = evaluate_checkpoints(
        [str(tmp_path / "r")],
        str(data),
        views=recipe.views,
        on_error=recipe.on_error,
        batch=30,
        workers=0,
    )
    assert result is not None
    assert len(result.labels) == layout.val  # also those that are gone
    assert len(result.problems) == layout.missing
    assert result.views == recipe.views
    if layout.classes:
        assert result.classes == layout.classes
    checkpoint = read_checkpoint(tmp_path / "r")
    assert checkpoint.spec.class_names == result.classes
    assert checkpoint.metrics["val"]["clips"] == layout.val
    assert checkpoint.recipe == recipe.model_dump(mode="json")
    assert checkpoint.spec.num_segments == recipe.segments


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_layout_is_recognised(name: str, tree: Callable[[str], Path]) -> None:
    layout = LAYOUTS[name]
    clips = read_clips(tree(name), missing="report")
    assert clips.format == layout.format
    assert len(clips.splits["train"]) == layout.train
    gone = sum(map(len, clips.missing.values()))
    assert len(clips.splits["val"]) + len(clips.missing.get("val", [])) == layout.val
    assert gone == 2 * layout.missing  # one of training too


@pytest.mark.parametrize("name", list_recipes())
def test_recipes_build_a_model_and_carry_an_expected_accuracy(name: str) -> None:
    import torch

    recipe = read_recipe(name)
    with torch.device("meta"):
        model = create_model(recipe.model, 3, recipe.segments, **recipe.options)
    assert model.spec.num_segments == recipe.segments
    if name not in ("motion", *PRESET_NAMES):
        assert recipe.expected is not None
        assert recipe.expected.views == recipe.views


@pytest.mark.parametrize("name", ["ucf101", "hmdb51"])
def test_folds(name: str, tree: Callable[[str], Path], tmp_path: Path) -> None:
    """fold=2 trains on the second, and is measured on the second unless told otherwise."""
    data = tree(name)
    second = [clip.path for clip in read_clips(ClipSource(data, fold=2)).splits["val"]]
    assert second != [clip.path for clip in read_clips(data).splits["val"]]
    assert train(fine_tuning(name, data, tmp_path, fold=2), tmp_path / "r").finished
    run = [str(tmp_path / "r")]
    result = evaluate_checkpoints(run, str(data), workers=0)
    assert result is not None
    assert list(result.paths) == second
    other = evaluate_checkpoints(run, ClipSource(data, fold=1), workers=0)
    assert other is not None
    assert list(other.paths) != second


def test_missing_videos_are_refused_unless_on_error_is_skip(
    tree: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"on_error=skip"):
        train(small("k400-8f", tree("k400"), on_error="raise"), tmp_path / "r")


PRESETS = {"twice": (2, 1), "videomae": (2, 1), "tsn": (1, 2), "tsm-dense": (10, None)}
"""Clips of a test that a preset defines, and a number that it does not."""


@pytest.mark.parametrize("sampling", PRESETS)
def test_presets_of_published_code_train_and_test(
    sampling: str, tree: Callable[[str], Path], tmp_path: Path
) -> None:
    data = tree("ssv2")
    recipe = small("ssv2-8f", data, sampling=sampling, model="tsn_resnet18")
    assert train(recipe, tmp_path / "r").finished
    run = [str(tmp_path / "r")]
    clips, refused = PRESETS[sampling]
    result = evaluate_checkpoints(run, str(data), views=f"{clips}x3", workers=0)
    assert result is not None
    assert (result.views, result.sampling) == (f"{clips}x3", sampling)
    if refused is not None:
        with pytest.raises(UserError, match=f"{sampling!r} gives {clips} clip") as caught:
            evaluate_checkpoints(run, str(data), views=f"{refused}x1", workers=0)
        assert "\n" not in str(caught.value)


def test_the_test_may_sample_otherwise(
    tree: Callable[[str], Path], tmp_path: Path, smnet: Callable[..., Any]
) -> None:
    data = tree("ssv2")
    train(small("ssv2-8f", data, sampling="tsn", model="tsn_resnet18"), tmp_path / "r")
    call = ("evaluate", tmp_path / "r", "--data", data, "--workers", 0, "--views")
    done = smnet(*call, "2x3", "--sampling", "twice", "--json")
    assert done.status == 0, done.err
    printed = json.loads(done.out)
    assert (printed["views"], printed["sampling"]) == ("2x3", "twice")
    assert "sampling twice" in smnet(*call, "2x3", "--sampling", "twice").out
    for words in (("2x3",), ("1x1", "--sampling", "twice"), ("1x1", "--sampling", "twise")):
        done = smnet(*call, *words)
        assert done.status == 1
        assert done.err.count("\n") == 1, done.err
    assert "did you mean 'twice'" in done.err
