"""Background clips are drawn from what no part covers."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from smnet.data.annotations.background import draw_background
from smnet.data.annotations.read import read_clips
from smnet.data.annotations.source import ClipSource, split_of
from smnet.data.clips import Clip, ClipSet
from smnet.data.open import open_video
from tests.videos import moving_frames, write_video


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings of 4 s, two of them for training, with parts of 0.4 s and gaps."""
    folder = tmp_path_factory.mktemp("background")
    rows = ["path,label,start,end,split"]
    for number, split in enumerate(("train", "train", "val")):
        write_video(folder / f"{number}.mp4", moving_frames(40, 32, 32), fps=10)
        rows += [
            f"{number}.mp4,{'ab'[k % 2]},{start},{start + 0.4},{split}"
            for k, start in enumerate((0.5, 1.2, 1.6, 2.8))
        ]
    (folder / "parts.csv").write_text("\n".join([*rows, ""]))
    return folder / "parts.csv"


def test_background_overlaps_nothing(data: Path) -> None:
    plain = read_clips(data)
    for seed in range(5):
        clips = read_clips(ClipSource(data, background="auto", split_seed=seed))
        assert clips.classes == ("a", "b", "none")
        assert "background drawn from time without a part: train 4, val 2, 0.50" in clips.why
        for split, side in clips.splits.items():
            assert side[: len(plain.splits[split])] == plain.splits[split]
            for path in {clip.path for clip in side}:
                times = sorted((c.start or 0, c.end or 0) for c in side if c.path == path)
                assert all(end <= start for (_, end), (start, _) in pairwise(times))
                assert times[-1][1] <= 4
        for clip in clips.splits["val"][4:]:
            assert clip.label == 2
            assert Path(clip.path).name == "2.mp4"
            with open_video(clip.path, part=clip.part) as video:
                assert video.num_frames >= 3


def test_background_is_a_function_of_the_seed(data: Path) -> None:
    one, again, other = (
        read_clips(ClipSource(data, background="auto", split_seed=seed)).splits
        for seed in (0, 0, 1)
    )
    assert one == again
    assert one != other
    assert split_of({"fold": 1, "val_fraction": 0.2, "split_seed": 0, "background": "auto"})


def test_covered_recordings_and_whole_clips_have_no_background(data: Path) -> None:
    full = [Clip(str(data.parent / "0.mp4"), 0, "x:1", start=0, end=4)]
    clips = draw_background(ClipSet("x", "csv", "why", ("a",), {"train": full}), 0)
    assert (clips.splits["train"], clips.classes) == (full, ("a",))
    whole = ClipSet("x", "csv", "why", ("a",), {"train": [Clip("0.mp4", 0, "x:1")]})
    found = draw_background(whole, 0)
    assert (found.splits, found.classes) == (whole.splits, whole.classes)
    assert "no background" in found.why
