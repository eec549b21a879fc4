"""The row function of a corpus on Ray Data; skipped where Ray is not installed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smnet.corpus.engine import Predict, run_on_ray
from smnet.corpus.results import Results
from smnet.errors import UserError
from smnet.inference.recognizer import Recognizer
from tests.corpus.test_run import inbox, predict, rows  # noqa: F401

pytest.importorskip("pyarrow")


def test_a_batch_of_paths(run: Path, inbox: Path) -> None:  # noqa: F811
    paths = [str(inbox / name) for name in ("00.mp4", "broken.mp4", "01.mp4")]
    batch = {"path": np.array(paths), "id": np.array([5, 6, 7])}
    found = Predict(str(run), "cpu", top=2)(batch)
    first = Recognizer.load(run, device="cpu").predict(paths[0], top=2)
    assert found["id"].tolist() == [5, 6, 7]
    assert (found["label"][0], found["labels"][0]) == (first.label, list(first.labels))
    assert found["score"][0] == pytest.approx(first.score, abs=1e-6)
    assert (found["label"][1], found["score"][1]) == ("", 0)
    assert found["error"][0] == found["error"][2] == ""
    assert paths[1] in found["error"][1]


@pytest.fixture(autouse=True)
def priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's workers have the priority of the test; by default they starve on a busy machine."""
    monkeypatch.setenv("RAY_worker_niceness", "0")


@pytest.fixture
def as_documented(
    run: Path,
    inbox: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], dict[str, Any]]:
    """Runs the example of docs/corpus.md that imports a library; returns its variables."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    page = (Path(__file__).parents[2] / "docs" / "corpus.md").read_text()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(run)
    paths = [str(inbox / name) for name in ("00.mp4", "broken.mp4", "01.mp4")]
    pq.write_table(pa.table({"path": paths}), tmp_path / "clips.parquet")
    monkeypatch.chdir(tmp_path)

    def execute(library: str) -> dict[str, Any]:
        blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
        (block,) = (text for text in blocks if f"import {library}\n" in text)
        variables: dict[str, Any] = {"__name__": "example"}
        exec(block, variables)
        return variables

    return execute


def check_documented(found: list[dict[str, Any]], run: Path) -> None:
    by_name = {Path(row["path"]).name: row for row in found}
    assert len(found) == len(by_name) == 3
    good = [by_name[name] for name in ("00.mp4", "01.mp4")]
    expected = Recognizer.load(run, device="cpu").predict_many([row["path"] for row in good])
    for row, prediction in zip(good, expected, strict=True):
        assert (row["label"], row["error"]) == (prediction.label, "")
        assert row["score"] == pytest.approx(prediction.score, abs=1e-5)
    assert "broken.mp4" in by_name["broken.mp4"]["error"]


def test_the_example_for_daft(as_documented: Callable[[str], dict[str, Any]], run: Path) -> None:
    pytest.importorskip("daft")
    check_documented(as_documented("daft")["rows"].to_pylist(), run)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_example_for_ray(as_documented: Callable[[str], dict[str, Any]], run: Path) -> None:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        check_documented(as_documented("ray")["rows"].take_all(), run)
    finally:
        ray.shutdown()


@pytest.fixture
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ray_gives_the_rows_of_this_machine(
    run: Path,
    inbox: Path,  # noqa: F811
    tmp_path: Path,
    cluster: Any,
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    predict(run, here, inbox)
    summary = run_on_ray(str(run), [str(inbox)], there, device="cpu", top=2)
    assert (summary.rows, summary.lost, summary.done) == (12, 2, 0)
    for table in ("predictions", "unreadable"):
        expected, found = rows(here, table), rows(there, table)
        assert found.keys() == expected.keys()
        for name, row in found.items():
            assert row["key"] == expected[name]["key"]
            if table == "predictions":
                assert row["scores"] == pytest.approx(expected[name]["scores"], abs=1e-5)
            else:
                assert row["stage"] == expected[name]["stage"]
    again = run_on_ray(str(run), [str(inbox)], there, device="cpu", top=2)
    assert (again.rows, again.done) == (0, 14)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_node_that_is_killed_loses_nothing(
    run: Path,
    inbox: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = pytest.importorskip("ray")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    links = tmp_path / "links"
    links.mkdir()
    originals = sorted(path.resolve() for path in inbox.glob("[0-9]*.mp4"))
    for number in range(600):
        (links / f"{number:03}.mp4").symlink_to(originals[number % len(originals)])
    (links / "broken.mp4").write_bytes(b"no video")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    try:
        node = cluster.add_node(num_cpus=2)
        ray.init(address=cluster.address, log_to_driver=False)
        add, at_work = Results.add, []

        def add_then_kill(results: Results, *row: Any) -> None:
            add(results, *row)
            if not at_work and (found := workers_of(node)):
                at_work.extend(found)
                cluster.remove_node(node, allow_graceful=False)

        monkeypatch.setattr(Results, "add", add_then_kill)
        summary = run_on_ray(str(run), [str(links)], tmp_path / "out", device="cpu", top=2)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert at_work
    assert (summary.rows, summary.lost) == (600, 1)
    assert len(rows(tmp_path / "out")) == 600


def workers_of(node: Any) -> list[str]:
    """The titles of the stages that run on a node of this machine."""
    raylet = node.all_processes["raylet"][0].process.pid
    children = Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()
    titles = [Path(f"/proc/{child}/cmdline").read_bytes().decode() for child in children]
    return [title for title in titles if "MapWorker" in title]


def test_ray_is_an_extra(
    run: Path,
    inbox: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match=r"smnet-video\[ray\]"):
        run_on_ray(str(run), [str(inbox)], tmp_path / "out")
