"""``smnet data pack``, and the other verbs on what it wrote."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import tiny, write_clips

pytest.importorskip("pyarrow")

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, six clips in train/, three in val/. Not to be changed."""
    return write_clips(tmp_path_factory.mktemp("data") / "clips", {"train": 2, "val": 1})


def test_pack_show_check_and_stats(data: Path, smnet: Call, tmp_path: Path) -> None:
    out = tmp_path / "packed"
    called = smnet("data", "pack", data, out, "--frames", 4, "--short-side", 16, "--workers", 2)
    assert called.status == 0
    assert f"{out}: 9 clips packed (train 6, val 3);" in called.out
    assert " in 1 shard, " in called.out
    larger = smnet("data", "pack", data, tmp_path / "larger", "--frames", "all", "--quality", 100)
    assert "times as large as the videos" in larger.out
    again = smnet("data", "pack", data, out, "--frames", 4, "--short-side", 16)
    assert "9 of them by an earlier run" in again.out
    result = json.loads(smnet("data", "show", out, "--json").out)
    assert (result["format"], result["classes"]) == ("packed", ["falling", "resting", "rising"])
    assert result["splits"] == {"train": 6, "val": 3}
    assert [row["frames"] for row in result["rows"]["train"]] == [4, 4, 4]
    checked = smnet("data", "check", out, "--workers", 1)
    assert (checked.status, "nothing found" in checked.out) == (0, True)
    result = json.loads(smnet("data", "stats", out, "--json", "--workers", 1).out)
    assert result["clips"] == {"train": 6, "val": 3}
    assert result["spread"]["frames"] == [4] * 5


def test_training_and_evaluation_read_it(data: Path, smnet: Call, tmp_path: Path) -> None:
    from smnet.training.loop import train

    out = tmp_path / "packed"
    assert smnet("data", "pack", data, out, "--frames", "all").status == 0
    outcome = train(tiny(out, epochs=1, workers=2), tmp_path / "run")
    assert outcome.finished
    run = tmp_path / "run"
    scores = tmp_path / "scores.csv"
    how = ["--json", "--device", "cpu", "--workers", 2, "--predictions", scores]
    called = smnet("evaluate", run, "--data", out, *how)
    assert called.status == 0
    assert json.loads(called.out)["clips"] == 3
    clips = [line.split(",")[0] for line in scores.read_text().splitlines()[1:]]
    assert sorted(clips) == sorted(str(clip.relative_to(data)) for clip in data.glob("val/*/*"))


def test_unreadable_clips(data: Path, smnet: Call, tmp_path: Path) -> None:
    hurt, out = tmp_path / "hurt", tmp_path / "packed"
    shutil.copytree(data, hurt)
    (hurt / "train/rising/1.mp4").write_bytes(b"")
    called = smnet("data", "pack", hurt, out)
    assert called.status == 1
    assert "train/rising/1.mp4: is empty (0 bytes)" in called.err
    assert "--on-error skip" in called.err
    called = smnet("data", "pack", hurt, out, "--on-error", "skip")
    assert called.status == 0
    assert "8 clips packed (train 5, val 3)" in called.out
    assert "left out: train/rising/1.mp4: " in called.out
    assert "not tried again" not in called.out
    again = smnet("data", "pack", hurt, out, "--on-error", "skip")
    assert "are not tried again in the same folder" in again.out
    assert smnet("data", "show", out, "--json").out.count('"missing": {') == 1
    assert json.loads(smnet("data", "show", out, "--json").out)["missing"]["train"] == 1
    found = smnet("data", "check", out, "--workers", 1)
    assert (found.status, "missing" in found.out) == (1, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["DATA", "OUT", "--frames", "some"], "--frames some: use a number, or all"),
        (["DATA", "OUT", "--on-error", "what"], "use raise or skip"),
        (["DATA", "DATA/packed"], "lies inside the data"),
        (["DATA/none", "OUT"], "cannot open"),
        (["s3://bucket/raw", "OUT", "--format", "csv"], "only packed sets"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], said: str, data: Path, smnet: Call, tmp_path: Path
) -> None:
    places = {"DATA": str(data), "OUT": str(tmp_path / "out")}
    for name, place in places.items():
        words = [word.replace(name, place) for word in words]
    called = smnet("data", "pack", *words)
    assert called.status == 1
    assert called.err.startswith("smnet: ")
    assert said in called.err
    assert called.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_packing_and_reading_need_no_torch() -> None:
    code = (
        "import sys, smnet.data.packing.pack, smnet.data.packed.read;"
        " sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
