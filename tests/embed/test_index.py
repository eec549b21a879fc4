"""Search by example, duplicates and recall, on vectors whose neighbours are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smnet.embed.index import Index
from smnet.errors import UserError


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """Three clusters of ten."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 16)) * 3
    return np.repeat(centres, 10, 0) + rng.normal(size=(30, 16))


def names(count: int) -> list[str]:
    return [f"/videos/{number}.mp4" for number in range(count)]


def test_the_nearest_are_of_the_cluster(vectors: np.ndarray) -> None:
    index = Index(vectors, names(30))
    matches = index.find(index.unit([12]), count=10)
    assert matches[0].row == 12
    assert matches[0].score == pytest.approx(1)
    assert {match.row for match in matches} == set(range(10, 20))
    assert [m.score for m in matches] == sorted((m.score for m in matches), reverse=True)


def test_against_a_plain_search(vectors: np.ndarray) -> None:
    index = Index(vectors, names(30))
    scaled = (vectors - vectors.mean(0)) / vectors.std(0)
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
    query = scaled[[3, 4]].mean(0) - scaled[25]
    expected = np.argsort(-(scaled @ query))
    found = index.find(index.unit([3, 4]), index.unit([25]), 30, leave_out=[3, 4])
    assert [m.row for m in found] == [i for i in expected.tolist() if i not in (3, 4)]


def test_counterexamples_push_away(vectors: np.ndarray) -> None:
    index = Index(vectors, names(30))
    both, counter = index.unit([0, 10]), index.unit([11])
    assert {m.row // 10 for m in index.find(both, count=20)} == {0, 1}
    assert 1 not in {m.row // 10 for m in index.find(both, counter, 20)}


def test_duplicates(vectors: np.ndarray) -> None:
    copies = np.concatenate([vectors, vectors[[5, 7, 5]] * 1.001])
    groups = Index(copies, names(33)).duplicates(0.999)
    assert groups == [[5, 30, 32], [7, 31]]
    assert Index(vectors, names(30)).duplicates(0.9999) == []


def test_recall_by_hand() -> None:
    points = np.array([[0.0, 1], [0.1, 1], [1, 0], [1, 0.1], [-1, -1]])
    index = Index(points, names(5))
    assert index.recall(["a", "a", "b", "b", "alone"], (1, 2)) == {1: 1.0, 2: 1.0}
    assert index.recall(["a", "b", "a", "b", "alone"], (1,)) == {1: 0.0}
    with pytest.raises(UserError, match="no label occurs twice"):
        index.recall(list("abcde"))


def test_one_video_and_constant_values() -> None:
    index = Index(np.array([[1.0, 2.0]]), ["/a.mp4"])
    assert index.find(index.standardised(np.array([[1.0, 2.0]])))[0].score == pytest.approx(1)
    index = Index(np.array([[1.0, 5], [2, 5], [3, 5]]), names(3))
    assert np.isfinite(index.unit(slice(None))).all()


def test_rows_of_paths(vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index(vectors, names(30))
    monkeypatch.chdir("/")
    assert index.rows_of("/videos/4.mp4") == index.rows_of("videos/4.mp4") == [4]
    assert index.rows_of("/videos/x.mp4") == []


def test_no_index(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(UserError, match="make one with: smnet embed"):
        Index.load(tmp_path)
    (tmp_path / "embeddings.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="not a table of vectors"):
        Index.load(tmp_path)
    with pytest.raises(UserError, match="an empty index"):
        Index(np.empty((0, 3)), [])
