"""Predictions over many files: complete, resumed, with every unreadable file named."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from smnet.corpus import results as results_module
from smnet.corpus.items import list_items
from smnet.corpus.run import Summary, prediction_work, run_corpus
from smnet.data.addresses import filesystem_of
from smnet.errors import UserError
from smnet.inference.backends import open_backend, plan_views
from smnet.inference.pipeline import read_in_processes, read_item
from smnet.inference.recognizer import Recognizer
from tests.conftest import Called

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

SLOW_PREDICT = (
    "import sys, time; from smnet.corpus import results; results.ROWS = 2\n"
    "from smnet.corpus.results import Results; add = Results.add\n"
    "def slow(*a): add(*a); print('row', flush=True); time.sleep(0.05)\n"
    "Results.add = slow\n"
    "from smnet.cli.main import main\n"
    "sys.argv[1:] = ['predict', *sys.argv[1:], '--top', '2', '--device', 'cpu']; main()"
)
"""A program: ``smnet predict`` that prints a line and waits after each row."""


@pytest.fixture
def inbox(clips: Path, tmp_path: Path) -> Path:
    """Twelve videos and two files that are none."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    for number, clip in enumerate(sorted(clips.rglob("*.mp4"))[:12]):
        (folder / f"{number:02}.mp4").symlink_to(clip)
    (folder / "broken.mp4").write_bytes(b"no video")
    (folder / "gone.mp4").symlink_to(folder / "nothing")
    return folder


def predict(run: Path, out: Path | str, *words: Path | str, **more: Any) -> Summary:
    backend = open_backend(run, "cpu")
    work = prediction_work(backend, plan_views(backend), run, 2)
    return run_corpus(work, [str(word) for word in words], out, workers=2, batch=4, **more)


def rows(out: Path, table: str = "predictions") -> dict[str, dict[str, Any]]:
    listed = pq.read_table(out / f"{table}.parquet").to_pylist()
    by_path = {Path(row["path"]).name: row for row in listed}
    assert len(by_path) == len(listed)
    return by_path


def test_every_file_is_in_one_table(run: Path, inbox: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = predict(run, out, inbox)
    assert (summary.listed, summary.rows, summary.lost, summary.done) == (14, 12, 2, 0)
    assert summary.merged == {"predictions.parquet": 12, "unreadable.parquet": 2, "missing": 0}
    found = rows(out)
    expected = Recognizer.load(run, device="cpu").predict_many(
        [str(inbox / name) for name in found], top=2
    )
    for prediction in expected:
        row = found[Path(prediction.path).name]
        assert row["label"] == prediction.label
        assert row["labels"] == list(prediction.labels)
        assert row["scores"] == pytest.approx(prediction.scores, abs=1e-5)
    lost = rows(out, "unreadable")
    assert (lost["broken.mp4"]["stage"], lost["gone.mp4"]["stage"]) == ("decoding", "reading")
    assert "no such file" in lost["gone.mp4"]["reason"]
    assert b"sha256" in pq.read_schema(out / "predictions.parquet").metadata[b"settings"]


def test_manifests_and_shards_give_the_rows_of_the_files(
    run: Path, inbox: Path, tmp_path: Path
) -> None:
    predict(run, tmp_path / "whole", inbox)
    with tarfile.open(tmp_path / "shard.tar", "w", dereference=True) as tar:
        for name in ("00.mp4", "01.mp4", "broken.mp4"):
            tar.add(inbox / name, name)
    (tmp_path / "m.csv").write_text("path,start,end\ninbox/02.mp4,,\ninbox/03.mp4,0,0.1\n")
    pq.write_table(pa.table({"video": ["inbox/04.mp4"]}), tmp_path / "m.parquet")
    (tmp_path / "list.txt").write_text("inbox/05.mp4\n")
    words = [tmp_path / name for name in ("shard.tar", "m.csv", "m.parquet")]
    summary = predict(run, tmp_path / "out", *words, f"@{tmp_path / 'list.txt'}")
    assert (summary.rows, summary.lost) == (6, 1)
    expected, found = rows(tmp_path / "whole"), rows(tmp_path / "out")
    (part,) = (found.pop(name) for name in ["03.mp4"])
    assert (part["start"], part["end"]) == (0, 0.1)
    assert found.keys() == {"00.mp4", "01.mp4", "02.mp4", "04.mp4", "05.mp4"}
    for name, row in found.items():
        assert row["scores"] == pytest.approx(expected[name]["scores"], abs=1e-5)
    (lost,) = rows(tmp_path / "out", "unreadable").values()
    assert lost["path"] == f"{tmp_path}/shard.tar/broken.mp4"


def test_a_second_run_does_what_is_missing(run: Path, inbox: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(run, out, inbox)
    before = rows(out)
    (inbox / "00.mp4").unlink()
    shutil.copy(inbox / "05.mp4", inbox / "new.mp4")
    summary = predict(run, out, inbox)
    assert (summary.done, summary.rows, summary.lost) == (13, 1, 0)
    after = rows(out)
    assert after.keys() == (before.keys() | {"new.mp4"}) - {"00.mp4"}
    assert all(after[name] == before[name] for name in after if name in before)
    (inbox / "gone.mp4").unlink()
    shutil.copy(inbox / "05.mp4", inbox / "gone.mp4")
    assert predict(run, out, inbox).rows == 1
    assert predict(run, out, inbox, retry=True).lost == 1
    assert rows(out, "unreadable").keys() == {"broken.mp4"}


def test_other_settings_do_not_mix(run: Path, inbox: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(run, out, inbox)
    backend = open_backend(run, "cpu")
    work = prediction_work(backend, plan_views(backend, 2, 1), run, 2)
    assert run_corpus(work, [str(inbox)], out, workers=1).rows == 12
    assert len(list(out.glob("*/run.json"))) == 2


def test_shares_complete_each_other(run: Path, inbox: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = predict(run, out, inbox, share=(0, 2))
    assert first.merged["missing"] == 14 - first.listed > 0
    second = predict(run, out, inbox, share=(1, 2))
    assert first.listed + second.listed == 14
    assert second.merged == {"predictions.parquet": 12, "unreadable.parquet": 2, "missing": 0}


def test_two_runs_do_not_write_at_once(run: Path, inbox: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(run, out, inbox)
    (folder,) = (path.parent for path in out.glob("*/run.json"))
    hold = "import sys; from pathlib import Path; from smnet.files import alone_in\n"
    hold += "with alone_in(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", hold, str(folder / "writer-0of1")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(UserError, match="another process is writing"):
            predict(run, out, inbox)
        other.communicate()


def test_tables_of_another_program_stay(run: Path, inbox: Path, tmp_path: Path) -> None:
    (tmp_path / "predictions.parquet").write_bytes(b"mine")
    with pytest.raises(UserError, match="was not written by smnet"):
        predict(run, tmp_path, inbox)


def test_results_at_an_address(run: Path, inbox: Path, smnet: Callable[..., Called]) -> None:
    out = f"memory://{inbox.parent.name}/out"
    files, folder = filesystem_of(out)
    summary = predict(run, out, inbox)
    assert summary.merged == {"predictions.parquet": 12, "unreadable.parquet": 2, "missing": 0}
    with files.open(f"{folder}/predictions.parquet") as table:
        assert len({row["path"] for row in pq.read_table(table).to_pylist()}) == 12
    again = predict(run, out, inbox)
    assert (again.done, again.rows) == (14, 0)
    called = smnet("predict", run, inbox, "--out", out, "--workers", 1)
    assert f"page: {out}/summary.html" in called.out
    assert b"<video" in files.cat_file(f"{folder}/summary.html")
    files.pipe_file(f"{folder}2/predictions.parquet", b"mine")
    with pytest.raises(UserError, match="no results of smnet beside it"):
        predict(run, f"{out}2", inbox)


def test_a_video_that_hangs_holds_up_no_other(
    run: Path, inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = open_backend(run, "cpu")
    read = backend.read

    def hostile(path: Any, *more: Any) -> Any:
        return time.sleep(1000) if path.endswith("00.mp4") else read(path, *more)

    monkeypatch.setattr(backend, "read", hostile)
    work = prediction_work(backend, plan_views(backend), run)
    videos = read_in_processes(
        partial(read_item, backend, work.plan),
        work.plan.shape,
        list_items([str(inbox)]),
        2,
        20,
        3.0,
    )
    names = [Path(item.path).name for item, _, _ in videos]
    assert len(names) == 14
    assert names[-1] == "00.mp4" or names.index("00.mp4") >= 7


def test_a_damaged_part(run: Path, inbox: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(run, out, inbox)
    (part,) = out.glob("*/part-*.parquet")
    part.write_bytes(b"PAR1")
    with pytest.raises(UserError, match="remove it, and its rows are made again"):
        predict(run, out, inbox)
    part.unlink()
    assert predict(run, out, inbox).rows == 12


@pytest.mark.slow
def test_killed_runs_lose_and_repeat_nothing(
    run: Path, inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    predict(run, whole, inbox)
    command = [sys.executable, "-c", SLOW_PREDICT, str(run), str(inbox), "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as killed:
        assert killed.stdout is not None
        for _ in range(6):
            killed.stdout.readline()
        os.killpg(killed.pid, signal.SIGKILL)
    time.sleep(0.1)
    assert len(list(out.glob("*/part-*.parquet"))) == 3
    summary = predict(run, out, inbox)
    assert summary.done >= 6
    assert rows(out).keys() == rows(whole).keys()
    for name, row in rows(out).items():
        assert row["scores"] == pytest.approx(rows(whole)[name]["scores"], abs=1e-5)


def test_parts_are_written_as_they_fill(
    run: Path, inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results_module, "ROWS", 5)
    out = tmp_path / "out"
    predict(run, out, inbox)
    assert len(list(out.glob("*/part-*.parquet"))) >= 2
    assert len(rows(out)) == 12


def test_the_command(smnet: Callable[..., Called], run: Path, inbox: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    called = smnet("predict", run, inbox, "--out", out, "--workers", 1)
    assert called.status == 0, called.err
    assert "14 videos: 0 done before, 12 new, 2 unreadable" in called.out
    assert f"written: {out} (predictions.parquet: 12, unreadable.parquet: 2" in called.out
    page = (out / "summary.html").read_text()
    assert "decoding: is not a video" in page or "broken.mp4" not in page
    assert page.count("<video") >= 3
    again = smnet("predict", run, inbox, "--out", out)
    assert "14 videos: all done before" in again.out
    assert smnet("predict", run, inbox, "--out", out, "--share", "3/2").status == 1
    assert "write I/N" in smnet("predict", run, inbox, "--out", out, "--share", "x").err
    assert "belong to --out" in smnet("predict", run, inbox, "--retry").err
