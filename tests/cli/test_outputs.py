"""Output files of all verbs: never an input, never another program's file, checked before work."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Called

Smnet = Callable[..., Called]

ROWS = "path,label,split\n" + "".join(
    f"{split}/{name}/0.mp4,{name},{split}\n"
    for split in ("train", "val")
    for name in ("falling", "resting", "rising")
)

# The verbs that write files: the words, with OUT where the output is named, and its suffix.
VERBS = {
    "check --report": ("data check LIST --report OUT --workers 1", ".csv"),
    "check --report json": ("data check LIST --report OUT --workers 1", ".json"),
    "check --fix-list": ("data check LIST --fix-list OUT --workers 1", ".csv"),
    "stats --picture": ("data stats LIST --picture OUT --workers 1", ".png"),
    "evaluate --predictions": (
        "evaluate RUN --data LIST --predictions OUT --workers 0 --device cpu",
        ".csv",
    ),
    "evaluate parquet": (
        "evaluate RUN --data LIST --predictions OUT --workers 0 --device cpu",
        ".parquet",
    ),
    "evaluate --confusion": (
        "evaluate RUN --data LIST --confusion OUT --workers 0 --device cpu",
        ".svg",
    ),
    "predict --annotate": ("predict RUN CLIP --annotate OUT --device cpu", ".mp4"),
    "export --out": ("export UNTRAINED --to torch --out OUT", ".pt2"),
    "convert --out": ("convert WEIGHTS --from timm --segments 2 --out OUT", ".safetensors"),
    "profile --plot": (
        "profile tsn_resnet18 --size 16 --segments 1 --rounds 1 --options width=8"
        " --plot OUT --results TABLE",
        ".pdf",
    ),
}
verbs = pytest.mark.parametrize("verb", VERBS)


@pytest.fixture
def places(run: Path, untrained: Path, clips: Path, tmp_path: Path) -> dict[str, str]:
    """The words that stand for files."""
    shutil.copytree(clips, tmp_path / "data")
    (tmp_path / "data/list.csv").write_text(ROWS)
    (tmp_path / "table.json").write_text(
        '{"rows": [{"label": "a", "model": "tsn_resnet18", "mean": 0.5, "half_width": null,'
        ' "gmacs": 1.0, "options": {"width": 8}}]}'
    )
    (tmp_path / "weights.pth").write_bytes(b"no weights")
    return {
        "LIST": f"{tmp_path}/data/list.csv",
        "RUN": str(run),
        "UNTRAINED": str(untrained),
        "CLIP": f"{tmp_path}/data/val/rising/0.mp4",
        "TABLE": f"{tmp_path}/table.json",
        "WEIGHTS": f"{tmp_path}/weights.pth",
    }


def words(verb: str, places: dict[str, str], out: Path) -> list[str]:
    return [{**places, "OUT": str(out)}.get(word, word) for word in VERBS[verb][0].split()]


@verbs
def test_another_program_s_file_is_not_replaced(
    smnet: Smnet, places: dict[str, str], tmp_path: Path, verb: str
) -> None:
    out = tmp_path / f"theirs{VERBS[verb][1]}"
    out.write_text("path,label\nmine,1\n")
    called = smnet(*words(verb, places, out))
    assert called.status == 1
    assert "exists and was not written by smnet" in called.err
    assert "--overwrite" in called.err
    assert called.err.count("\n") == 1
    assert out.read_text() == "path,label\nmine,1\n"


@pytest.mark.parametrize("verb", [v for v in VERBS if not v.startswith("export")])
@pytest.mark.parametrize("link", ["none", "symbolic", "hard"])
def test_an_input_is_not_replaced(
    smnet: Smnet, places: dict[str, str], tmp_path: Path, verb: str, link: str
) -> None:
    """Also with --overwrite, and also under another name."""
    suffix = VERBS[verb][1]
    names = ("LIST", "CLIP", "WEIGHTS", "TABLE")
    (source,) = (Path(places[n]) for n in names if n in VERBS[verb][0].split())
    target = source.with_name(f"input{suffix}")  # the input has a suffix that fits the output
    source.rename(target)
    places = {k: str(target) if place == str(source) else place for k, place in places.items()}
    out = target
    if link != "none":
        out = tmp_path / f"link{suffix}"
        (os.symlink if link == "symbolic" else os.link)(target, out)
    before = target.read_bytes()
    called = smnet(*words(verb, places, out), "--overwrite")
    assert called.status == 1
    assert called.err.count("\n") == 1
    assert target.read_bytes() == before
    assert out.exists()


@verbs
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    smnet: Smnet, places: dict[str, str], tmp_path: Path, verb: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    folder = tmp_path / f"folder{VERBS[verb][1]}"
    folder.mkdir()
    for out in (tmp_path / "file" / f"x{VERBS[verb][1]}", folder):
        called = smnet(*words(verb, places, out))
        assert called.status == 1
        assert "cannot write" in called.err
        assert called.err.count("\n") == 1
        assert called.out == ""


@pytest.mark.parametrize(
    "verb",
    [v for v in VERBS if v not in ("check --fix-list", "convert --out", "profile --plot")],
)
def test_an_own_file_is_replaced(
    smnet: Smnet, places: dict[str, str], tmp_path: Path, verb: str
) -> None:
    out = tmp_path / f"out{VERBS[verb][1]}"
    line = words(verb, places, out)
    assert smnet(*line).status == 0
    first = out.stat().st_ino
    again = smnet(*line)
    assert again.status == 0, again.err
    assert out.stat().st_ino != first


def test_overwrite_replaces(smnet: Smnet, places: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "list.csv"
    out.write_text("old\n")
    line = words("check --fix-list", places, out)
    assert smnet(*line).status == 1
    assert smnet(*line, "--overwrite").status == 0
    assert out.read_text().startswith("path,label,split,frames")


def test_two_outputs_are_two_files(smnet: Smnet, places: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    called = smnet("data", "check", places["LIST"], "--report", out, "--fix-list", out)
    assert called.status == 1
    assert "--report and --fix-list name the same file" in called.err


def test_a_run_s_own_best_checkpoint_is_not_replaced(smnet: Smnet, run: Path) -> None:
    before = (run / "best.safetensors").read_bytes()
    assert smnet("convert", run / "best.safetensors", "--out", run / "last.safetensors").status == 1
    assert smnet("export", run, "--out", run / "best.safetensors").status == 1
    assert (run / "best.safetensors").read_bytes() == before
