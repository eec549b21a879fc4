"""Vectors of videos: their blocks, windows of recordings, and the table of an index."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from smnet.corpus.items import Item, list_items
from smnet.corpus.run import Summary, run_corpus
from smnet.data.clips import Part
from smnet.data.open import open_video
from smnet.data.synthetic.scenes import draw_clip
from smnet.embed.index import Index
from smnet.embed.vectors import embed_windows, embedding_work, windows
from smnet.errors import UserError
from smnet.inference.backends import open_backend, plan_views
from smnet.inference.recognizer import Recognizer
from smnet.inference.vectors import WEIGHTS, pooled
from tests.conftest import class_frames
from tests.timeline.test_folder import crashes_in
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


def test_every_form_of_a_video_has_its_vector(run: Path, clips: Path) -> None:
    recognizer = Recognizer.load(run, device="cpu")
    path = next((clips / "val").rglob("*.mp4"))
    with open_video(path) as video:
        frames = video.read(range(video.num_frames))
    expected = recognizer.embed(path)
    forms = [str(path), frames, torch.from_numpy(frames), frames / 255, path.read_bytes()]
    with path.open("rb") as file, av.open(str(path)) as container:
        for form in (*forms, file, container):
            assert recognizer.embed(form) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(UserError, match="int: not a video"):
        recognizer.embed(5)


def test_windows_of_a_recording(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "a.mp4", class_frames(0, 0, count=20), fps=10)
    (item,) = list_items([str(clip)])
    parts = [w.part for w in windows([item], every=0.5, length=1.0)]
    assert parts == [Part(0, 1), Part(0.5, 1.5), Part(1, 2)]
    assert [w.part for w in windows([item], every=0.7, length=1.0)][-1] == Part(1, 2)
    assert [w.part for w in windows([item], every=1, length=5.0)] == [None]
    missing = Item(str(tmp_path / "b.mp4"), -1, "")
    assert list(windows([missing], 1, 1)) == [missing]


def test_a_window_for_each_frame_and_windows_of_parts(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "a.mp4", class_frames(0, 0, count=20), fps=10)
    (item,) = list_items([str(clip)])
    frames = [w.part for w in windows([item], every=None, length=None)]
    assert frames == [Part(round(n / 10, 6), round((n + 1) / 10, 6)) for n in range(20)]
    parts = [w.part for w in windows([item], every=None, length=0.5)]
    assert (parts[3], parts[-1]) == (Part(0.3, 0.8), Part(1.9, 2.0))
    part = replace(item, part=Part(0.5, 1.5))
    assert [w.part for w in windows([part], 0.5, 0.5)] == [Part(0.5, 1.0), Part(1.0, 1.5)]
    with pytest.raises(UserError, match="parts in seconds"):
        list(windows([replace(item, part=Part(5, 15, "frames"))], 0.5, 0.5))


def test_windows_have_the_vectors_of_the_parts_and_a_crash_is_one_row(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    for number, name in enumerate(("a", "b")):
        frames = class_frames(number, 0, count=60)
        write_video(tmp_path / f"{name}.mp4", frames, fps=10)
    backend = open_backend(run, "cpu")
    work = embedding_work(backend, plan_views(backend), run, every=0.5, window=1.0)
    sources, out = [str(tmp_path / f"{name}.mp4") for name in "ab"], tmp_path / "index"

    def embed(**settings: Any) -> Summary:
        return embed_windows(work, sources, out, 0.5, 1.0, workers=2, **settings)

    with monkeypatch.context() as patched:
        crashes_in(patched, "b.mp4", after=0)
        summary = embed()
        assert (summary.listed, summary.rows, summary.lost) == (22, 11, 1)
        assert summary.merged == {"embeddings.parquet": 11, "unreadable.parquet": 1, "missing": 0}
        (lost,) = pq.read_table(out / "unreadable.parquet").to_pylist()
        assert (lost["path"], lost["stage"], lost["start"]) == (sources[1], "decoding", None)
        assert "SIGSEGV" in lost["reason"]
        again = embed()
        assert (again.rows, again.lost, again.done) == (0, 0, 22)
    summary = embed(retry=True)
    assert (summary.rows, summary.merged["unreadable.parquet"]) == (11, 0)
    recognizer = Recognizer.load(run, device="cpu")
    rows = pq.read_table(out / "embeddings.parquet").to_pylist()
    assert len(rows) == 22
    for row in rows[::4]:
        alone = recognizer.embed(row["path"], start=row["start"], end=row["end"])
        assert np.array(row["vector"], np.float32) == pytest.approx(alone, rel=1e-3, abs=1e-3)


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
