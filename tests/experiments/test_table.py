"""The table of a comparison: intervals and differences by hand, markdown, json, picture."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from smnet.experiments.table import Row, draw, markdown, write_tables
from smnet.recipes.recipe import Recipe

ROWS = [
    Row("TSN", "tsn_resnet18", [0.5, 0.6, 0.7], 2_000_000, 1.25, 0.02, [10, 11, 12]),
    Row("SMNet", "smnet_resnet18", [0.9], 2_500_000, 1.5, math.nan, [20], learned=[0.6, 0.62]),
]


def test_interval_of_the_mean_by_hand() -> None:
    three, one = ROWS
    assert three.mean == pytest.approx(0.6)
    # t(2) = 4.30, s = 0.1
    assert three.half_width == pytest.approx(4.30 * 0.1 / math.sqrt(3))
    assert one.mean == 0.9
    assert math.isnan(one.half_width)
    many = Row("x", "x", [0.0, 1.0] * 10, 1, 1, 1, [])
    # t(19) = 2.09
    assert many.half_width == pytest.approx(2.09 * math.sqrt(5 / 19) / math.sqrt(20))
    more = Row("x", "x", [0.0, 1.0] * 50, 1, 1, 1, [])
    assert more.half_width == pytest.approx(2.09 * math.sqrt(25 / 99) / math.sqrt(100))


def test_difference_seed_by_seed_by_hand() -> None:
    base = Row("TSN", "tsn_resnet18", [0.5, 0.9, 0.7], 1, 1, 1, [])
    other = Row("TSM", "tsm_resnet18", [0.6, 1.0, 0.7, 0.1], 1, 1, 1, [])
    mean, half = other.over(base)
    assert mean == pytest.approx(0.2 / 3)
    # differences 0.1, 0.1, 0: s^2 = (2 (1/30)^2 + (2/30)^2) / 2; t(2) = 4.30
    assert half == pytest.approx(4.30 * math.sqrt(6 / 900 / 2) / math.sqrt(3))
    assert half < other.half_width


def test_markdown() -> None:
    lines = markdown(ROWS, Recipe(epochs=12), seeds=3).splitlines()
    assert lines[2] == "| TSN | 60.0 ± 24.8 | - | - | 2.00 M | 1.25 | 1.00 |"
    assert lines[3] == "| SMNet | 90.0 | +40.0 | 61.0 | 2.50 M | 1.5 | - |"
    assert "12 epochs, 8 segments of 224 x 224, weights imagenet, 3 seeds" in lines[5]
    other = markdown(ROWS, Recipe(epochs=12, temporal_lr=4, options={"width": 8}), seeds=3)
    assert "12 epochs, width=8, temporal_lr=4, 8 segments" in other
    assert lines[7].startswith("Machine: processor ")
    better = Row("SMNet", "smnet_resnet18", [0.8, 0.8, 0.8], 2_500_000, 1.5, 0.03, [])
    lines = markdown([ROWS[0], better], Recipe(), seeds=3).splitlines()
    assert lines[3] == "| SMNet | 80.0 ± 0.0 | +20.0 ± 24.8 | - | 2.50 M | 1.5 | 1.50 |"
    odd = replace(better, label="a|b", not_read=2, gmacs=0.00123)
    text = markdown([ROWS[0], odd], Recipe(), seeds=3)
    assert "\n| a\\|b | 80.0" in text
    assert "| 0.00123 |" in text
    assert "; 2 validation clips could not be read and count as wrong.\n" in text
    assert "could not be read" not in markdown(ROWS, Recipe(), seeds=3)


def test_tables(tmp_path: Path) -> None:
    write_tables(ROWS, Recipe(), 3, tmp_path)
    values = json.loads((tmp_path / "table.json").read_text(), parse_constant=pytest.fail)
    assert [row["label"] for row in values["rows"]] == ["TSN", "SMNet"]
    assert values["rows"][1]["latency"] is None  # NaN is no JSON
    assert values["rows"][0]["mean"] == pytest.approx(0.6)
    assert values["recipe"]["model"] == "smnet_resnet50"
    assert {"processor", "torch", "smnet", "cores"} <= set(values["machine"])
    assert (tmp_path / "table.md").read_text() == markdown(ROWS, Recipe(), 3)


def test_the_picture_holds_points_that_would_meet(tmp_path: Path) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="the plot extra is not installed")
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyplot, "close", shown.append)
        rows = [Row(name, name, [0.0, 0.1, 0.9], 1, 1.5, 1, []) for name in ("a", "b")]
        draw([*rows, Row("c", "c", [0.5], 1, 3, 1, [])], tmp_path / "table.png")
    (figure,) = shown
    (axes,) = figure.axes
    points = [tuple(bar.lines[0].get_xydata()[0]) for bar in axes.containers]
    assert points[0][1] == points[1][1]
    assert points[0][0] < 1.5 < points[1][0] < 1.6
    assert points[2] == (3, 50)
    assert axes.get_xlim()[0] < points[0][0]
    assert points[2][0] < axes.get_xlim()[1]
    low, high = axes.get_ylim()
    assert -10 < low < 0
    assert 80 < high < 110
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c"]
