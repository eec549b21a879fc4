"""Approximate search proposes nearly the videos that exact search finds; skipped without faiss."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from smnet.embed import approximate
from smnet.embed.approximate import FILE, Approximate
from smnet.embed.index import TABLE, Index
from smnet.errors import UserError

COUNT = 6000


@pytest.fixture(scope="module")
def index() -> Index:
    """Vectors in 200 clusters, with noise."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(200, 96))
    vectors = np.repeat(centres, COUNT // 200, 0) + 0.7 * rng.normal(size=(COUNT, 96))
    return Index(vectors.astype(np.float16), [f"/{n}.mp4" for n in range(COUNT)])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / TABLE).write_bytes(b"")
    return tmp_path / TABLE


def test_recall_of_exact_search(index: Index, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    near = Approximate(index, table)
    monkeypatch.setattr(approximate, "CANDIDATES", 20)
    hits = 0
    for row in range(0, COUNT, 300):
        exact = index.find(index.unit([row]), count=10, leave_out=[row])
        found = index.find(index.unit([row]), count=10, leave_out=[row], candidates=near)
        scores = {m.row: m.score for m in exact}
        hits += sum(m.row in scores for m in found)
        assert all(m.score == pytest.approx(scores.get(m.row, m.score)) for m in found)
        assert row not in {m.row for m in found}
    assert hits >= 0.9 * 10 * 20


def test_the_copy_is_kept_until_the_table_changes(index: Index, table: Path) -> None:
    pytest.importorskip("faiss")
    Approximate(index, table)
    file = table.with_name(FILE)
    first = file.stat().st_mtime_ns
    Approximate(index, table)
    assert file.stat().st_mtime_ns == first
    os.utime(table, ns=(first + 10**9, first + 10**9))
    Approximate(index, table)
    assert file.stat().st_mtime_ns != first


def test_faiss_is_an_extra(index: Index, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(UserError, match=r"smnet-video\[find\]"):
        Approximate(index, table)
