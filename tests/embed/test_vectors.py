"""Vectors of videos: their blocks, windows of recordings, and the table of an index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smnet.corpus.items import Item, list_items
from smnet.corpus.run import run_corpus
from smnet.data.clips import Part
from smnet.data.synthetic.scenes import draw_clip
from smnet.embed.index import Index
from smnet.embed.vectors import embedding_work, windows
from smnet.inference.backends import open_backend, plan_views
from smnet.inference.recognizer import Recognizer
from smnet.inference.vectors import WEIGHTS, pooled
from tests.conftest import class_frames
from tests.videos import write_video


def test_blocks_against_loops() -> None:
    features, backwards = np.random.default_rng(0).normal(size=(2, 2, 3, 5, 4)).astype(np.float32)
    found = pooled(features, backwards)
    assert found.shape == (2, 3, 12)
    for b in range(2):
        for v in range(3):
            for c in range(4):
                values = [float(features[b, v, t, c]) for t in range(5)]
                mean = sum(values) / 5
                deviation = (sum((x - mean) ** 2 for x in values) / 5) ** 0.5
                other = sum(float(backwards[b, v, t, c]) for t in range(5)) / 5
                expected = (mean, deviation, (mean - other) / 2)
                assert found[b, v, [c, 4 + c, 8 + c]] == pytest.approx(expected, abs=1e-5)


def test_a_reversed_clip_has_the_opposite_direction_and_is_not_the_nearest() -> None:
    """With the network that ships, and takes of drawn motions that it has not seen."""
    recognizer = Recognizer.load("motion", device="cpu")
    rng = np.random.default_rng(5)
    takes = [(n, draw_clip(n, rng, frames=24)) for n in range(6) for _ in range(2)]
    vectors = np.stack([recognizer.embed(frames) for _, frames in takes])
    backwards = np.stack([recognizer.embed(frames[::-1].copy()) for _, frames in takes])
    block = vectors.shape[1] // 3
    assert backwards[:, 2 * block :] == pytest.approx(-vectors[:, 2 * block :], abs=1e-4)
    index = Index(vectors, [str(label) for label, _ in takes], weights=WEIGHTS)
    own, other = index.unit(slice(None)), index.standardised(backwards)
    close = own @ own.T
    np.fill_diagonal(close, -1)
    assert ((own * other).sum(1) < close.max(1)).all()


def test_windows_of_a_recording(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "a.mp4", class_frames(0, 0, count=20), fps=10)
    (item,) = list_items([str(clip)])
    parts = [w.part for w in windows([item], every=0.5, length=1.0)]
    assert parts == [Part(0, 1), Part(0.5, 1.5), Part(1, 2)]
    assert [w.part for w in windows([item], every=0.7, length=1.0)][-1] == Part(1, 2)
    assert [w.part for w in windows([item], every=1, length=5.0)] == [None]
    missing = Item(str(tmp_path / "b.mp4"), -1, "")
    assert list(windows([missing], 1, 1)) == [missing]


def test_a_table_of_vectors(run: Path, clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    backend = open_backend(run, "cpu")
    work = embedding_work(backend, plan_views(backend), run)
    (tmp_path / "broken.mp4").write_bytes(b"x")
    words = [str(clips / "val"), str(tmp_path / "broken.mp4")]
    summary = run_corpus(work, words, tmp_path / "index", workers=1)
    assert (summary.rows, summary.lost) == (6, 1)
    index = Index.load(tmp_path / "index")
    assert len(index) == 6
    recognizer = Recognizer.load(run, device="cpu")
    for row, path in enumerate(index.paths):
        (best,) = index.find(index.standardised(recognizer.embed(path)[None]), count=1)
        assert best.row == row
        assert best.score == pytest.approx(1, abs=1e-2)
