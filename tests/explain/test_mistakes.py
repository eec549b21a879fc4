"""The mistakes of an evaluation, explained in its report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.conftest import CLASSES, Called


def test_the_report_explains_the_worst_mistakes(
    smnet: Callable[..., Called], run: Path, clips: Path, tmp_path: Path
) -> None:
    data = tmp_path / "wrong.csv"
    rows = [f"{clips}/val/{name}/0.mp4,{CLASSES[k - 1]}" for k, name in enumerate(CLASSES)]
    data.write_text("\n".join(["path,label", *rows]))
    page = tmp_path / "page.html"
    words = ("evaluate", run, "--data", data, "--split", "all", "--workers", 0, "--device", "cpu")
    called = smnet(*words, "--report", page, "--explain", 1)
    assert called.status == 0, called.err
    text = page.read_text("utf-8")
    assert text.count("Why these mistakes") == 1
    assert " rather than " in text
    assert smnet(*words, "--report", page, "--overwrite").status == 0
    assert "Why these mistakes" not in page.read_text("utf-8")
    both = smnet("evaluate", run, run, *words[2:], "--explain", 1)
    assert both.status == 1
    assert "--explain N belongs to the report of one checkpoint" in both.err
