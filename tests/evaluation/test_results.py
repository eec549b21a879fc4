"""The forms of an evaluation: numbers, predictions as csv and parquet, a picture."""

from __future__ import annotations

import csv
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smnet.console import json_text
from smnet.errors import UserError
from smnet.evaluation.results import Evaluation, write_predictions
from smnet.models.spec import Decision
from smnet.report.confusion import draw_confusion
from smnet.report.plotting import drawn_name
from smnet.report.tables import print_evaluation
from tests.conftest import file_size_limit

NAN = float("nan")

RESULT = Evaluation(
    scores=np.array(
        [
            [0.7, 0.2, 0.1],
            [0.1, 0.6, 0.3],
            [0.5, 0.3, 0.2],
            [0.2, 0.2, 0.6],
            [NAN, NAN, NAN],
        ],
        dtype=np.float32,
    ),
    labels=np.array([0, 1, 1, 2, 2]),
    classes=("up", "down, slowly", "[none]"),
    paths=("a.mp4", "b, c.mp4", "d.mp4", "é.mp4", "broken.mp4"),
    views="2x3",
    problems=("list.txt:5: broken.mp4: no such file",),
)


def test_numbers_by_hand() -> None:
    assert RESULT.predictions.tolist() == [0, 1, 0, 2, -1]
    assert RESULT.top(1).value == 3 / 5
    assert RESULT.top(2).value == 4 / 5
    assert RESULT.top(3).value == 4 / 5  # the unreadable clip is never right
    assert RESULT.mean_class.value == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert RESULT.confusion.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert RESULT.confused() == [("down, slowly", "up", 1)]


def test_mistakes_by_hand() -> None:
    assert RESULT.mistakes().tolist() == [2]  # the unreadable clip has no prediction
    worse = replace(RESULT, labels=np.array([1, 0, 1, 2, 2]))
    assert worse.mistakes().tolist() == [0, 1, 2]  # scores 0.7, 0.6, 0.5
    several = replace(RESULT, truth=np.ones((5, 3), bool))
    assert several.mistakes().tolist() == []


def test_a_score_of_zero_is_a_score() -> None:
    zeros = replace(RESULT, scores=np.zeros((5, 3), dtype=np.float32))
    assert zeros.predictions.tolist() == [0] * 5  # a name, but
    assert zeros.top(1).value == 0  # not to its credit


def test_summary_is_plain_and_complete() -> None:
    summary = json.loads(json.dumps(RESULT.summary()))
    assert (summary["views"], summary["clips"], summary["unreadable"]) == ("2x3", 5, 1)
    assert summary["top1"] == [0.6, pytest.approx(0.230724), pytest.approx(0.882379)]
    assert summary["top5"][0] == 0.8  # of three classes: the best three
    assert summary["classes"][1] == {
        "name": "down, slowly",
        "clips": 2,
        "recall": 0.5,
        "precision": 1.0,
    }
    assert summary["confused"] == [{"true": "down, slowly", "predicted": "up", "clips": 1}]
    assert summary["problems"] == list(RESULT.problems)


def test_summary_of_a_class_without_clips_is_json() -> None:
    labels = np.array([0, 0, 0, 0, 0])
    classes = replace(RESULT, labels=labels).summary()["classes"]
    assert classes[1]["recall"] is None
    json.loads(json.dumps(classes), parse_constant=pytest.fail)


def test_csv_holds_every_clip(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.csv", RESULT)
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == list(RESULT.paths)
    assert [row["label"] for row in rows] == ["up", *["down, slowly"] * 2, "[none]", "[none]"]
    assert [row["predicted"] for row in rows] == ["up", "down, slowly", "up", "[none]", ""]
    assert float(rows[1]["score:down, slowly"]) == pytest.approx(0.6)
    assert rows[4]["score:up"] == "nan"


def test_parquet_holds_the_same(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_predictions(tmp_path / "p.parquet", RESULT)
    table = parquet.read_table(tmp_path / "p.parquet").to_pydict()
    assert table["path"] == list(RESULT.paths)
    assert table["predicted"] == ["up", "down, slowly", "up", "[none]", ""]
    assert table["score:[none]"][3] == pytest.approx(0.6)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_confusion_is_drawn(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / f"c{suffix}"
    draw_confusion(file, RESULT)
    if suffix == ".png":
        with Image.open(file) as picture:
            assert min(picture.size) > 300
            assert len(picture.convert("L").getcolors() or []) > 10
    else:
        assert file.stat().st_size > 1000
    assert os.listdir(tmp_path) == [file.name]


def test_names_that_look_like_formulas_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    names = ("pay $5 or $6^_", r"\frac{x $\bad$", "$")
    draw_confusion(tmp_path / "c.png", replace(RESULT, classes=names))
    draw_confusion(tmp_path / "c.svg", replace(RESULT, classes=names))
    assert (tmp_path / "c.png").stat().st_size > 1000
    assert drawn_name("a" * 50) == "a" * 43 + "…"


@pytest.mark.parametrize("name", ["p.txt", "p", "p.CSV.gz", "p.json"])
def test_other_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"predictions is written as \.csv or \.parquet"):
        write_predictions(tmp_path / name, RESULT)
    with pytest.raises(UserError, match=r"written as \.png, \.svg or \.pdf"):
        draw_confusion(tmp_path / name, RESULT)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("module", "name", "extra"), [("matplotlib", "c.png", "plot"), ("pyarrow", "p.parquet", "sha")]
)
def test_a_missing_library_is_named_with_the_line_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    write = draw_confusion if name == "c.png" else write_predictions
    with pytest.raises(UserError, match=rf"needs {module}.*pip install 'smnet-video\[{extra}"):
        write(tmp_path / name, RESULT)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["p.csv", "p.parquet", "c.png"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, name: str) -> None:
    if name == "p.parquet":
        pytest.importorskip("pyarrow.parquet")
    if name == "c.png":
        pytest.importorskip("matplotlib.pyplot")
    (tmp_path / name).write_text("old")
    big = replace(
        RESULT,
        scores=np.random.default_rng(0).random((900, 3), dtype=np.float32),
        labels=np.zeros(900, dtype=np.int64),
        paths=tuple(f"{i}.mp4" for i in range(900)),
    )
    with file_size_limit(500), pytest.raises(UserError, match=f"cannot write .*{name}"):
        (draw_confusion if name == "c.png" else write_predictions)(tmp_path / name, big)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_file_names_that_are_not_utf8(tmp_path: Path) -> None:
    odd = replace(
        RESULT, paths=tuple(os.fsdecode(f"{i}\xe9.mp4".encode("latin1")) for i in range(5))
    )
    write_predictions(tmp_path / "p.csv", odd)
    rows = list(csv.reader((tmp_path / "p.csv").open(encoding="utf-8")))
    assert rows[1][0] == r"0\udce9.mp4"
    pytest.importorskip("pyarrow")
    write_predictions(tmp_path / "p.parquet", odd)


def test_a_tie_is_wrong_in_every_number() -> None:
    """Top-1 of classes of the same size is their mean recall."""
    rows = [[0.5, 0.5, 0.0], [0.1, 0.8, 0.1], [0.4, 0.2, 0.4]]
    tied = Evaluation(np.array(rows), np.array([0, 1, 2]), ("a", "b", "c"), ("", "", ""), "1x1")
    assert tied.top(1).value == tied.mean_class.value == pytest.approx(1 / 3)
    assert tied.confusion.tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert tied.predictions.tolist() == [0, 1, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_count_as_wrong_and_are_reported(
    bad: float, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = np.array([[0.9, 0.1], [0.9, bad], [np.nan, np.nan]], np.float32)
    result = Evaluation(
        scores, np.zeros(3, np.int64), ("a", "b"), ("1", "2", "3"), "1x1", ("3: x",)
    )
    assert result.not_finite == 1
    assert result.predictions.tolist() == [0, -1, -1]
    assert result.top(1).value == pytest.approx(1 / 3)
    assert json.loads(json_text(result.summary()))["not_finite"] == 1
    print_evaluation(result)
    assert "1 clip with scores that are not finite" in capsys.readouterr().out


SEVERAL = replace(
    RESULT,
    scores=np.array([[0.9, 0.6, 0.1], [0.2, 0.7, 0.8], [0.4, 0.1, 0.9]], np.float32),
    labels=np.array([0, 1, 0]),
    truth=np.array([[True, True, False], [False, True, False], [True, False, False]]),
    classes=("up", "down", "none"),
    paths=("a.mp4", "b.mp4", "c.mp4"),
    problems=(),
)


def test_several_labels_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert SEVERAL.headline[0] == "mAP"
    assert SEVERAL.precisions[:2] == [1.0, 1.0]
    assert SEVERAL.headline[1].value == 1.0  # none is left out
    assert [(r.clips, r.correct, r.predicted) for r in SEVERAL.by_class] == [
        (2, 1, 1),
        (2, 2, 2),
        (0, 0, 2),
    ]
    assert SEVERAL.summary()["classes"][0]["ap"] == 1.0
    write_predictions(tmp_path / "p.csv", SEVERAL)
    rows = list(csv.reader((tmp_path / "p.csv").open()))
    assert [row[1] for row in rows[1:]] == ["up|down", "down", "up"]
    assert [row[2] for row in rows[1:]] == ["up|down", "down|none", "none"]
    print_evaluation(SEVERAL)
    assert "mAP         100.0%" in capsys.readouterr().out


def test_unknown_and_background(capsys: pytest.CaptureFixture[str]) -> None:
    result = replace(
        RESULT,
        classes=("up", "down", "none"),
        decision=Decision(2.0, 0.55),
        unknown=np.array([[0.4, 0.3, 0.3], [0.9, 0.1, 0.0]], np.float32),
    )
    assert result.answered.sum(1).tolist() == [1, 1, 0, 1, 0]
    assert result.unknown_auroc == (1 + 0.25 * 0) / 2  # 0.4 is below all, 0.9 above all
    print_evaluation(result)
    out = capsys.readouterr().out
    assert "answered    60.0% [23.1%, 88.2%], of these right 100.0%" in out
    assert "false alarms 0.0% [0.0%, 65.8%] of background clips" in out
    assert "AUROC 0.500, known against 2 unknown clips" in out
    assert "50.0% [9.5%, 90.5%] of them are answered with unknown" in out
