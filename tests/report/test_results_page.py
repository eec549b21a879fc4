"""The report of a result: what is on it, what it stands without, and its size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from smnet.data.clips import Clip
from smnet.evaluation.results import Evaluation
from smnet.files import is_ours
from smnet.report.clips import FRAMES, copy_of
from smnet.report.results_page import Report, Suspect, results_page, write_report
from tests.experiments.test_demo import parsed
from tests.videos import moving_frames, write_video

NAMES = ("跳ぶ", "<run>", "يمشي")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    folder = tmp_path_factory.mktemp("films")
    paths = [write_video(folder / f"{k}.mp4", moving_frames(40, 320, 240, k)) for k in range(3)]
    return [Clip(str(path), k, str(path)) for k, path in enumerate(paths)]


@pytest.fixture
def result(films: list[Clip]) -> Evaluation:
    scores = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.2, 0.2, 0.6]], np.float32)
    return Evaluation(
        scores,
        np.array([0, 1, 2]),
        NAMES,
        tuple(clip.path for clip in films),
        "1x1",
        clips=tuple(films),
    )


def test_a_whole_page(result: Evaluation, films: list[Clip], tmp_path: Path) -> None:
    report = Report(
        "A & B",
        result,
        "on three clips",
        curve=[(1, 2.0, 0.3), (2, 1.0, 0.4), (3, 0.9, 0.5), (4, 0.8, 0.6)],
        counts={"<run>": 4},
        suspects=[Suspect(films[1], "<run>", NAMES[0], 0.7)],
        cost={"time": "3 s"},
        command="smnet adapt 'a b'",
    )
    write_report(tmp_path / "report.html", report)
    assert is_ours(tmp_path / "report.html")
    page = parsed((tmp_path / "report.html").read_text("utf-8"))
    text = "".join(page.text)
    for words in (
        *NAMES,
        "66.7%top-1, 95 % interval",
        "Add training clips. These classes have fewer than 10: <run> (4).",
        "Train for longer",
        "Check the labels of 1 clip",
        "smnet adapt 'a b'",
        "expected error",
    ):
        assert words in text
    videos = [attributes for tag, attributes in page.seen if tag == "video"]
    assert len(videos) == 2  # the mistake, and the suspect
    for tag, attributes in page.seen:
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:"), tag


def test_without_curves_clips_or_mistakes(result: Evaluation) -> None:
    right = replace(result, labels=np.array([0, 0, 2]), clips=())
    page = parsed(results_page(Report("x", right, "y")))
    assert not [tag for tag, _ in page.seen if tag == "video"]
    assert "nan" not in "".join(page.text)


def test_several_labels(result: Evaluation) -> None:
    truth = np.array([[True, True, False], [False, True, False], [False, False, True]])
    text = "".join(parsed(results_page(Report("x", replace(result, truth=truth), "y"))).text)
    assert "mAP" in text
    assert "Confusion" not in text


def test_the_page_stays_small(films: list[Clip]) -> None:
    """Noise does not compress, and clips beyond the limit are left out."""
    count = 60
    result = Evaluation(
        np.tile(np.float32([0.9, 0.05, 0.05]), (count, 1)),
        np.ones(count, np.int64),
        NAMES,
        tuple(films[0].path for _ in range(count)),
        "1x1",
        clips=tuple(films[:1] * count),
    )
    suspects = [Suspect(films[k % 3], "a", "b", 0.9) for k in range(40)]
    assert len(results_page(Report("x", result, "y", suspects=suspects))) < 2 * 2**20


def test_copies_of_clips(films: list[Clip], tmp_path: Path) -> None:
    video = copy_of(films[0])
    assert video is not None
    file = tmp_path / "copy.mp4"
    file.write_bytes(video)
    from tests.videos import decode_all

    frames = decode_all(file)
    assert len(frames) == FRAMES
    assert max(frames[0].shape) == 176
    assert copy_of(str(tmp_path / "nowhere.mp4")) is None
