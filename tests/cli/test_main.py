"""The command line: verbs, help, exit statuses, and one line for wrong invocations."""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import save_file

from smnet import __version__
from smnet.checkpoints.file import read_checkpoint
from smnet.cli import main as cli
from smnet.experiments import compare
from smnet.recipes.recipe import Recipe
from tests.conftest import CLASSES, Called, tiny, write_clips
from tests.videos import decode_all, lose_packets, moving_frames, write_video

Smnet = Callable[..., Called]

WORDS = (
    "model=tsn_resnet18",
    "options.width=8",
    "weights=none",
    "segments=2",
    "size=32",
    "short_side=32",
    "workers=0",
    "epochs=2",
    "warmup=0.5",
    "batch=3",
    "device=cpu",
)


def verbs() -> list[tuple[str, ...]]:
    """Every verb, also those of groups such as data."""

    def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        below = getattr(command, "commands", {})
        if not below:
            yield path
        for name, child in below.items():
            yield from walk(child, (*path, name))

    return list(walk(typer.main.get_command(cli.app), ()))


# --- Help.


@pytest.mark.parametrize("verb", verbs(), ids=" ".join)
def test_the_help_of_every_verb_has_an_example(smnet: Smnet, verb: tuple[str, ...]) -> None:
    called = smnet(*verb, "--help")
    assert called.status == 0
    assert called.err == ""
    _, found, examples = called.out.partition("Example")
    assert found
    assert f"smnet {' '.join(verb)}" in examples
    assert all(len(line) <= 100 for line in called.out.splitlines())
    assert smnet(*verb, "-h").out == called.out


def test_verbs_are_there() -> None:
    expected = {"train", "evaluate", "predict", "demo", "compare", "models", "recipes"}
    assert expected <= {verb[0] for verb in verbs()}


def test_help_lists_the_verbs(smnet: Smnet) -> None:
    for called in (smnet("--help"), smnet("-h"), smnet()):
        assert all(verb[0] in called.out + called.err for verb in verbs())


def test_version(smnet: Smnet) -> None:
    assert smnet("--version").out == f"smnet {__version__}\n"


def test_verbs_are_completed(smnet: Smnet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_SMNET_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "smnet da")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert smnet().out.split() == ["data"]


def test_help_is_quick() -> None:
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "smnet", "--help"], capture_output=True, text=True, check=True
    )
    assert time.perf_counter() - began < 60  # half a second on a quiet machine
    assert "train" in done.stdout


# --- The verbs do their work.


def test_train_then_evaluate_then_predict(
    smnet: Smnet, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").symlink_to(clips)
    trained = smnet("train", "--data", "clips", "--out", "r", *WORDS)
    assert trained.status == 0, trained.err
    assert trained.out.splitlines()[-1] == "checkpoint: r/best.safetensors"
    assert trained.out.startswith("best: top-1 ")
    assert "lr 0.000469 = 0.01 x 3/64 (sgd, clips per step)" in trained.err
    assert read_checkpoint("r").recipe["data"] == str(tmp_path / "clips")  # from anywhere
    result = smnet("evaluate", "r", "--data", "clips", "--workers", "0")
    assert result.status == 0
    assert "6 clips, views 1x1 (clips x crops), sampling uniform" in result.out
    said = smnet("predict", "r", "clips/val/rising/0.mp4")
    assert said.status == 0
    assert all(name in said.out for name in CLASSES)
    finished = smnet("train", "--resume", "r")
    assert (finished.status, finished.out) == (0, trained.out)


def test_a_run_gets_a_folder_of_its_own(
    smnet: Smnet, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("epochs: 1\nwarmup: 0\n")
    words = [w for w in WORDS if not w.startswith(("epochs", "warmup"))]
    assert smnet("train", "mine.yaml", *words, f"data={clips}").status == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("mine-2")


def test_an_interrupted_run_says_how_to_go_on(
    smnet: Smnet, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.training.test_state import stop_after

    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        stopped = smnet("train", "--data", clips, "--out", tmp_path / "r", *WORDS)
    assert stopped.status == 130
    assert stopped.out == ""
    assert stopped.err.rstrip().endswith(f"smnet train --resume {tmp_path / 'r'}")
    assert smnet("train", "--resume", tmp_path / "r").status == 0


def test_evaluate_json_and_files(smnet: Smnet, run: Path, clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    table, picture = tmp_path / "p.csv", tmp_path / "c.png"
    options = ("--views", "2x3", "--predictions", table, "--confusion", picture, "--workers", "0")
    called = smnet("evaluate", run, "--data", clips, "--json", *options)
    assert called.status == 0, called.err
    summary = json.loads(called.out)
    assert summary["views"] == "2x3"
    assert summary["clips"] == 6
    assert [c["name"] for c in summary["classes"]] == list(CLASSES)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    right = sum(row["label"] == row["predicted"] for row in rows)
    assert right / 6 == pytest.approx(summary["top1"][0], abs=1e-6)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_evaluate_for_people(smnet: Smnet, run: Path, tmp_path: Path) -> None:
    data = write_clips(tmp_path / "d", {"train": 1, "val": 2})
    (data / "val" / "rising" / "1.mp4").write_bytes(b"not a video")
    called = smnet("evaluate", run, "--data", data, "--on-error", "skip", "--workers", "0")
    assert called.status == 0
    lines = called.out.splitlines()
    assert lines[0] == "6 clips, views 1x1 (clips x crops), sampling uniform"
    assert lines[1].startswith("top-1 ")
    assert "1 clip could not be read, counted as wrong:" in lines
    assert sum(str(data / "val" / "rising" / "1.mp4") in line for line in lines) == 1
    assert all(any(line.startswith(name) for line in lines) for name in CLASSES)


def test_class_names_are_printed_as_they_are(
    smnet: Smnet, run: Path, clips: Path, tmp_path: Path
) -> None:
    """Brackets are part of half the names of Something-Something, not colours for the terminal."""
    from dataclasses import replace

    from smnet.checkpoints.file import save_checkpoint

    names = ("Pushing [something]", "[red]Lifting[/red]", "Putting [something] :boom:")
    old = read_checkpoint(run)
    checkpoint = tmp_path / "x.safetensors"
    save_checkpoint(checkpoint, replace(old, spec=replace(old.spec, class_names=names)))
    data = tmp_path / "d"
    data.mkdir()
    rows = ["path,label,split"]
    for split in ("train", "val"):
        rows += [
            f"{p},{names[CLASSES.index(p.parent.name)]},{split}"
            for p in sorted((clips / split).rglob("*.mp4"))
        ]
    (data / "all.csv").write_text("\n".join(rows) + "\n")
    result = smnet("evaluate", checkpoint, "--data", data / "all.csv", "--workers", "0")
    assert result.status == 0, result.err
    said = smnet("predict", checkpoint, clips / "val/rising/0.mp4")
    for name in names:
        assert name in result.out
        assert name in said.out


def test_predict_json_lines(smnet: Smnet, run: Path, clips: Path) -> None:
    called = smnet("predict", run, clips / "val", "--json", "--top", "2", "--views", "1x3")
    assert called.status == 0
    rows = [json.loads(line) for line in called.out.splitlines()]
    assert [row["path"] for row in rows] == [str(p) for p in sorted(clips.glob("val/*/*.mp4"))]
    for row in rows:
        assert row["label"] == row["top"][0]["label"]
        assert len(row["top"]) == 2
        assert 1 >= row["score"] == row["top"][0]["score"] >= row["top"][1]["score"] >= 0


@pytest.mark.parametrize("as_json", [False, True])
def test_predict_with_a_broken_video_among_good_ones(
    smnet: Smnet, run: Path, clips: Path, tmp_path: Path, as_json: bool
) -> None:
    good = sorted(clips.glob("val/*/*.mp4"))[:3]
    broken = tmp_path / ("a long name " * 8 + "broken.mp4")
    broken.write_bytes(b"not a video")
    sources = [good[0], broken, good[1], good[2]]
    called = smnet("predict", run, *sources, *["--json"] * as_json)
    assert called.status == 1
    if as_json:
        rows = [json.loads(line) for line in called.out.splitlines()]
        assert [row["path"] for row in rows] == [str(s) for s in sources]
        assert [("error" in row) for row in rows] == [False, True, False, False]
    else:
        assert [line.split()[0] for line in called.out.splitlines()] == [str(p) for p in good]
        line, used = called.err.splitlines()
        assert line.startswith(f"smnet: {broken}: ")
        assert used.startswith("3 videos in ")


def test_damaged_clips_are_named(smnet: Smnet, run: Path, tmp_path: Path) -> None:
    """Frames that are lost are not replaced without a word: in prediction, evaluation, training."""
    videos = tmp_path / "clips"
    for name in CLASSES:
        for split in ("train", "val"):
            (videos / split / name).mkdir(parents=True)
            write_video(videos / split / name / "0.avi", moving_frames(8, 32, 32), codec="mjpeg")
    for split in ("train", "val"):
        hurt = videos / split / CLASSES[1] / "0.avi"
        lose_packets(hurt, hurt, range(2, 7))
    result = smnet("predict", run, hurt)
    assert result.status == 0
    assert result.out.startswith(str(hurt))
    assert f"smnet: {hurt}: damaged (" in result.err
    (row,) = map(json.loads, smnet("predict", run, hurt, "--json").out.splitlines())
    assert row["damage"] > 0
    result = smnet("evaluate", run, "--data", videos)
    assert "1 clip damaged, evaluated on the remaining frames:" in result.out
    found = json.loads(smnet("evaluate", run, "--data", videos, "--json").out)
    assert (found["clips"], found["unreadable"], len(found["damaged"])) == (3, 0, 1)
    assert str(hurt) in found["damaged"][0]
    recipe = tiny(videos, batch=3).model_dump(mode="json")
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    result = smnet("train", tmp_path / "recipe.yaml", "--out", tmp_path / "run")
    assert "1 damaged clips" in result.out + result.err


def test_predict_from_a_list_and_a_pattern(
    smnet: Smnet, run: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "list.txt").write_text("val/rising/0.mp4\nval/falling/1.mp4\n")
    monkeypatch.chdir(clips)
    called = smnet("predict", run, f"@{tmp_path / 'list.txt'}", "val/*/1.mp4", "--json")
    paths = [json.loads(line)["path"] for line in called.out.splitlines()]
    assert paths == [
        "val/rising/0.mp4",
        "val/falling/1.mp4",
        "val/resting/1.mp4",
        "val/rising/1.mp4",
    ]


def test_predict_annotate(smnet: Smnet, run: Path, clips: Path, tmp_path: Path) -> None:
    clip = clips / "val" / "rising" / "1.mp4"
    called = smnet("predict", run, clip, "--annotate", tmp_path / "new" / "out.mp4")
    assert called.status == 0
    assert called.err == f"written: {tmp_path / 'new' / 'out.mp4'}\n"
    assert len(decode_all(tmp_path / "new" / "out.mp4")) == len(decode_all(clip))


def test_models_and_recipes(smnet: Smnet) -> None:
    assert "smnet_resnet50" in smnet("models", "--names").out.splitlines()
    assert set(smnet("models", "tsn_*").out.split()) >= {"tsn_resnet18", "tsn_resnet50"}
    assert smnet("recipes").out.startswith(("motion", *"abcdefghijkl"))
    assert "model: smnet_resnet18 " in smnet("recipes", "motion").out


def test_compare_with_data_trains_whole_networks(
    smnet: Smnet, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Recipe] = []

    def noted(recipe: Recipe, _variants: Any, _seeds: int, out: Path, _trunk: str | None) -> None:
        asked.append(recipe)
        out.mkdir()
        (out / "table.md").write_text("")

    monkeypatch.setattr(compare, "compare", noted)
    for words in (["--data", str(clips)], ["motion", "--data", str(clips)]):
        out = str(tmp_path / str(len(asked)))
        assert smnet("compare", *words, "--models", "tsn_resnet18", "--out", out).status == 0
    assert [recipe.options.get("width") for recipe in asked] == [None, 16]
    assert asked[0].model_copy(update={"data": None, "format": None}) == Recipe()


def test_a_closed_pipe_is_no_error() -> None:
    code = (
        "import sys; from smnet.cli import main as cli;"
        " sys.argv = ['smnet', 'recipes', 'motion']; cli.main()"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.returncode == 141
    assert done.stderr == b""


def test_tracebacks_on_demand(smnet: Smnet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMNET_TRACEBACK", "1")
    with pytest.raises(ValueError, match="'nowhere' is neither the name"):
        smnet("recipes", "nowhere")


def test_interrupted(smnet: Smnet, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", stop)
    called = smnet("train")
    assert (called.status, called.err) == (130, "smnet: interrupted\n")


# --- Wrong invocations.


@pytest.fixture(scope="module")
def wrong(run: Path, clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all sorts of files that are not what they should be."""
    root = tmp_path_factory.mktemp("wrong")
    best = run / "best.safetensors"
    (root / "empty").mkdir()
    (root / "no-videos").mkdir()
    (root / "no-videos" / "notes.txt").write_text("nothing to see")
    (root / "file").write_text("in the way")
    (root / "blank.txt").write_text("")
    (root / "broken.mp4").write_bytes(b"not a video")
    (root / "cut.safetensors").write_bytes(best.read_bytes()[:-1000])
    (root / "stub.safetensors").write_bytes(best.read_bytes()[:100])
    save_file({"a": torch.zeros(3)}, root / "other.safetensors")
    torch.save({"a": torch.zeros(3)}, root / "model.pth")
    (root / "model.pt2").write_bytes(b"a program")
    (root / "model.pkl").write_bytes(pickle.dumps({"a": 1}))
    (root / "bad.yaml").write_text("epochs: [\n")
    (root / "bits.yaml").write_bytes(b"\xff\xfe\x00")
    (root / "keys.yaml").write_text("learning_rat: 3\n")
    (root / "started").mkdir()
    shutil.copy(run / "recipe.yaml", root / "started")
    shutil.copytree(root / "started", root / "torn")
    (root / "torn" / "resume.pt").write_bytes((run / "resume.pt").read_bytes()[:5000])
    write_clips(root / "two", {"train": 1, "val": 1}, CLASSES[:2])
    write_clips(root / "others", {"train": 1, "val": 1}, ("x", "y", "z"))
    (root / "rows.csv").write_text(
        f"path,label\n{clips}/val/rising/0.mp4,up\n{root}/gone.mp4,down\n"
    )
    return root


def test_compare_takes_the_data_that_it_is_given(
    smnet: Callable[..., Called], wrong: Path, tmp_path: Path
) -> None:
    called = smnet(
        "compare", "--models", "tsn_resnet18", f"data={wrong}/two", "--seeds", 1,
        "--out", tmp_path / "out", "epochs=1", "warmup=0", "options.width=8", "size=32",
        "segments=2", "weights=none", "workers=0", "batch=2",
    )  # fmt: skip
    assert called.status == 0, called.err
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    assert table["recipe"]["data"] == f"{wrong}/two"
    assert not (tmp_path / "out" / "motion").exists()


def test_control_characters_in_a_name_do_not_reach_the_terminal(
    smnet: Callable[..., Called], run: Path
) -> None:
    called = smnet("predict", run, "\x1b[31mred\rname.mp4")
    assert called.status == 1
    assert r"\x1b[31mred\rname.mp4" in called.err
    assert called.err.strip().isprintable()


@pytest.mark.parametrize("words", ["predict RUN CLIP", "evaluate RUN --data DATA"])
def test_a_negative_number_of_workers(
    smnet: Callable[..., Called], run: Path, clips: Path, words: str
) -> None:
    names = {"RUN": run, "CLIP": clips / "val" / "rising" / "0.mp4", "DATA": clips}
    called = smnet(*(names.get(word, word) for word in words.split()), "--workers", -1)
    assert called.status == 2
    assert "Invalid value for '--workers'" in called.err


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 TB",
            "CLIP: not enough memory to score it; use fewer views",
        ),
        ("[gloo/pair.cc:1] Connection closed by peer [::1]:2", "process 1 ended because"),
        (
            "[gloo/pair.cc:2] Read error: Connection reset by peer",
            "process 1 ended because another",
        ),
    ],
)
def test_known_errors_of_pytorch_are_one_line(
    smnet: Callable[..., Called],
    monkeypatch: pytest.MonkeyPatch,
    run: Path,
    clips: Path,
    message: str,
    says: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        # As in one of several processes, for which no others are wanted here.
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", "1")
        raise RuntimeError(message)

    monkeypatch.setattr("smnet.inference.torch_backend.TorchBackend.score", fail)
    called = smnet("evaluate", run, "--data", clips, "--workers", 0)
    assert called.status == 1
    first = str(clips / "val" / "falling" / "0.mp4")
    assert called.err.splitlines()[-1].startswith(f"smnet: {says.replace('CLIP', first)}")


@pytest.mark.parametrize("verb", ["predict", "export", "compare", "profile", "data"])
def test_verbs_of_one_process_refuse_torchrun(
    smnet: Callable[..., Called], monkeypatch: pytest.MonkeyPatch, run: Path, verb: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    words = {"data": ["show", run], "compare": ["--study", "parts"]}.get(verb, [run])
    called = smnet(verb, *words, *([run] if verb == "predict" else []))
    result = f"smnet: {verb} runs in one process: start it without torchrun\n"
    assert (called.status, called.out, called.err) == (1, "", result)


WRONG = [
    # words (DATA, RUN, CLIP and W/ are put in), what the message says
    ("train", "no data: give --data"),
    ("train --data W/nowhere", "cannot open"),
    ("evaluate W/model.pt2 --data DATA", "a torch.export program; load it with"),
    ("predict W/model.pt2 CLIP", "a torch.export program; load it with"),
    ("train --data W/empty WORDS", "no annotation recognised"),
    ("train --data W/no-videos WORDS", "no annotation recognised"),
    ("train --data W/broken.mp4 WORDS", "no annotation recognised"),
    ("train --data W/rows.csv WORDS", "gone.mp4"),
    ("train motoin --data DATA", "did you mean 'motion'"),
    ("train W/bad.yaml --data DATA", "not YAML"),
    ("train W/bits.yaml --data DATA", "cannot be read as a recipe"),
    ("train W/keys.yaml --data DATA", "unknown key 'learning_rat'"),
    ("train W/empty --data DATA", "did you mean --data"),
    ("train --data DATA WORDS epoch=3", "did you mean 'epochs'"),
    ("train --data DATA WORDS epochs=ten", "epochs must be a whole number"),
    ("train --data DATA WORDS lr=-1", "lr must be a number above 0"),
    ("train --data DATA WORDS optimizer=adam", "optimizer must be sgd or adamw"),
    ("train --data DATA WORDS views=7x2", "crops must be 1, 3 or 5"),
    ("train --data DATA WORDS nonsense", "write key=value"),
    ("train --data DATA WORDS model=smnet_resnet19", "no model is called 'smnet_resnet19'"),
    ("train --data DATA WORDS options.widht=8", "did you mean 'width'"),
    (
        "train --data DATA WORDS options.width=wide",
        "a multiple of 8 from 8 to 512, not 'wide'",
    ),
    ("train --data DATA WORDS sampling=unifrom", "did you mean 'uniform'"),
    ("train --data DATA WORDS device=gpu", "no device is called 'gpu'"),
    ("train --data DATA WORDS device=meta", "device=meta"),
    ("train --data DATA WORDS weights=W/nowhere.pth", "no such file of weights"),
    ("train --data DATA WORDS weights=W/model.pkl", "not a file of weights"),
    ("train --data DATA WORDS weights=W/stub.safetensors", "damaged or cut short"),
    ("train --data DATA WORDS weights=RUN", "does not fit"),
    ("train --data DATA --format coco WORDS", "no annotation format 'coco'"),
    ("train --data DATA --out W/file WORDS", "cannot write"),
    ("train --data DATA --out W/file/below WORDS", "cannot write"),
    ("train --data DATA --out RUN WORDS", "contains a run already"),
    ("train --resume W/nowhere", "no run to resume here"),
    ("train --resume W/empty", "recipe.yaml is missing"),
    ("train --resume W/started", "resume.pt is missing"),
    ("train --resume W/torn", "cannot be resumed from"),
    ("train --resume RUN epochs=50", "give nothing else"),
    ("evaluate W/nowhere --data DATA", "no such checkpoint"),
    ("evaluate W/empty --data DATA", "best.safetensors: no such checkpoint"),
    ("evaluate W/cut.safetensors --data DATA", "not a checkpoint, or truncated"),
    ("evaluate W/stub.safetensors --data DATA", "not a checkpoint, or truncated"),
    ("evaluate W/other.safetensors --data DATA", "not a checkpoint of smnet"),
    ("evaluate W/model.pth --data DATA", "not a checkpoint"),
    ("evaluate W/model.pkl --data DATA", "not a checkpoint"),
    ("evaluate CLIP --data DATA", "not a checkpoint"),
    ("evaluate RUN --data W/nowhere", "cannot open"),
    ("evaluate RUN --data W/two", "the data have 2"),
    ("evaluate RUN --data W/others", "only the data have 'x', 'y', 'z'"),
    ("evaluate RUN --data DATA --split test", "no split 'test'"),
    ("evaluate RUN --data DATA --views 7x2", "crops must be 1, 3 or 5"),
    ("evaluate RUN --data DATA --views many", "write clips x crops"),
    ("evaluate RUN --data DATA --weights 1,2", "give one number"),
    ("evaluate RUN --data DATA --weights nan", "give one number"),
    ("evaluate RUN --data DATA --on-error ignore", "use raise or skip"),
    ("evaluate RUN --data DATA --decoder decord", "use pyav or torchcodec"),
    ("evaluate RUN --data DATA --device gpu", "no device is called 'gpu'"),
    ("evaluate RUN --data DATA --predictions W/p.xlsx", "written as .csv or .parquet"),
    ("evaluate RUN --data DATA --confusion W/c.bmp", "written as .png"),
    ("evaluate RUN --data DATA --predictions W/file/p.csv", "cannot write"),
    ("predict RUN W/nowhere.mp4", "no such file or folder"),
    ("predict RUN W/empty", "no videos below this folder"),
    ("predict RUN W/no-videos", "no videos below this folder"),
    ("predict RUN W/*.webm", "no file matches this pattern"),
    ("predict RUN @W/blank.txt", "an empty list"),
    ("predict RUN W/broken.mp4", "broken.mp4: "),
    ("predict W/cut.safetensors CLIP", "not a checkpoint, or truncated"),
    ("predict RUN CLIP --views 1x2", "crops must be 1, 3 or 5"),
    ("predict RUN CLIP --annotate W/out.avi", "written as .mp4, .mkv or .mov"),
    ("predict RUN CLIP --annotate W/file/out.mp4", "cannot write"),
    ("predict RUN DATA --annotate W/out.mp4", "takes one video; 15 were given"),
    ("predict RUN CLIP --device cuda:99", "device=cuda:99"),
    ("compare --data DATA", "give either --models or --study"),
    ("compare --study nowhere --data DATA", "no study 'nowhere'"),
    ("compare --study W/bits.yaml --data DATA", "cannot be read as a study"),
    ("compare --study W/keys.yaml --data DATA", "a study has variants"),
    ("compare --models tsn_resnet18,tsm_resnet --data DATA --out W/new", "no model is called"),
    ("compare --models tsn_resnet18,tsm_resnet --out W/new", "no model is called"),
    ("compare --models tsn_resnet18 --out W/new seed=3", "seed=3: the models of a comparison"),
    ("compare --models tsn_resnet18 --out W/new model=tsm_resnet18", "--models or --study"),
    ("recipes nowhere", "'nowhere' is neither the name"),
    ("models nowhere*", "no model matches"),
    ("demo --out W/file", "cannot write"),
]


@pytest.mark.parametrize(("words", "says"), WRONG, ids=[words for words, _ in WRONG])
def test_wrong_invocations(
    smnet: Smnet, run: Path, clips: Path, wrong: Path, words: str, says: str
) -> None:
    def everything() -> set[tuple[Path, int]]:
        return {(p, p.stat().st_mtime_ns) for root in (wrong, run) for p in root.rglob("*")}

    names = {"DATA": [str(clips)], "RUN": [str(run)], "WORDS": WORDS}
    names["CLIP"] = [str(clips / "val" / "rising" / "0.mp4")]
    line = [w for word in words.split() for w in names.get(word, [word])]
    line = [w.replace("W/", f"{wrong}/").replace("=RUN", f"={run}") for w in line]
    if line[0] == "evaluate":
        line += ["--workers", "0"]
    before = everything()
    called = smnet(*line)
    assert called.status == 1
    complaints = [text for text in called.err.splitlines() if "smnet: " in text]
    assert len(complaints) == 1, called.err
    assert complaints[0].startswith("smnet: ")
    assert says in called.err
    assert "Traceback" not in called.err
    assert "SMNET_TRACEBACK" not in called.err  # it was expected
    assert everything() == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("nowhere", "nowhere"),
        ("trian", "trian"),
        ("train --dat x", "--dat"),
        ("evaluate", "CHECKPOINT"),
        ("evaluate x", "--data"),
        ("evaluate x --data y --batch 0", "--batch"),
        ("evaluate x --data y --workers many", "--workers"),
        ("predict", "checkpoint"),
        ("predict x", "SOURCE"),
        ("predict x y --top 0", "--top"),
        ("compare --seeds 0", "--seeds"),
    ],
)
def test_words_that_the_parser_refuses(smnet: Smnet, words: str, says: str) -> None:
    called = smnet(*words.split())
    assert called.status == 2
    assert called.out == ""
    last = called.err.splitlines()[-1]
    assert says.lower() in last.lower()
    assert "Traceback" not in called.err
    assert "--help" in called.err or " -h" in called.err
