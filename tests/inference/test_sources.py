"""Sources of prediction: words of a command line, and videos in memory."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, ClassVar

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from smnet.data.clips import Part
from smnet.data.loading.views import ViewPlan, read_views
from smnet.data.open import open_video
from smnet.errors import UserError
from smnet.inference import sources as sources_module
from smnet.inference.recognizer import Recognizer
from smnet.inference.sources import find_sources, find_videos
from smnet.models import ModelSpec
from tests.conftest import class_frames
from tests.videos import write_video


def test_an_empty_name() -> None:
    with pytest.raises(UserError, match="an empty name"):
        find_videos([""])


# --- Words of a command line.


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.mp4", "a.mp4", "deep/er/c.webm", "deep/d.AVI", "notes.txt", "deep/.hidden.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(2):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(frames / f"{number}.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_in_the_order_given_each_once(place: Path) -> None:
    assert find_videos(["b.mp4", "a.mp4", "b.mp4"]) == ["b.mp4", "a.mp4"]


def test_a_named_file_needs_no_video_suffix(place: Path) -> None:
    assert find_videos(["notes.txt"]) == ["notes.txt"]


def test_a_folder_means_the_videos_below_it(place: Path) -> None:
    found = find_videos([str(place / "deep")])
    assert found == [str(place / "deep/d.AVI"), str(place / "deep/er/c.webm")]


def test_a_folder_of_frames_is_a_video(place: Path) -> None:
    assert find_videos(["frames"]) == ["frames"]


def test_a_picture_makes_no_frames_of_a_folder_of_videos(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.webm", "cover.jpg"):
        (tmp_path / name).touch()
    names = [Path(found).name for found in find_videos([str(tmp_path)])]
    assert names == ["a.mp4", "b.webm"]


def test_folders_of_frames_below_a_folder(tmp_path: Path) -> None:
    for name in ("a/take1/00001.jpg", "a/take1/00002.jpg", "a/take1/more/x.mp4", "a/film.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "film.webm").touch()
    (tmp_path / "b" / "cover.jpg").touch()  # beside videos it is no clip
    names = [str(Path(found).relative_to(tmp_path)) for found in find_videos([str(tmp_path)])]
    assert names == ["a/film.mp4", "a/take1", "b/film.webm"]


def test_patterns(place: Path) -> None:
    assert find_videos(["*.mp4"]) == ["a.mp4", "b.mp4"]
    assert find_videos(["**/*.webm", "?.mp4"]) == ["deep/er/c.webm", "a.mp4", "b.mp4"]


def test_a_name_with_pattern_letters_that_exists_is_a_file(place: Path) -> None:
    (place / "take[1]?.mp4").write_bytes(b"x")
    assert find_videos(["take[1]?.mp4"]) == ["take[1]?.mp4"]


def test_lists(place: Path) -> None:
    (place / "list.txt").write_text("b.mp4\n\n  a.mp4  \nmissing.mp4\n")
    assert find_videos(["@list.txt"]) == ["b.mp4", "a.mp4", "missing.mp4"]


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("*.mkv", r"\*\.mkv: no file matches this pattern"),
        ("empty", "empty: no videos below this folder"),
        ("@nowhere", "nowhere: cannot be read as a list of videos"),
        ("@blank.txt", "blank.txt: an empty list"),
        ("@binary.txt", "binary.txt: cannot be read as a list of videos"),
        ("@empty", "empty: cannot be read as a list"),
    ],
)
def test_words_without_videos(place: Path, word: str, says: str) -> None:
    (place / "empty").mkdir()
    (place / "blank.txt").write_text("\n \n")
    (place / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=says):
        find_videos([word] if says.endswith(("pattern", "folder")) else ["a.mp4", word])


@pytest.mark.parametrize("word", ["*.mkv", "empty"])
def test_a_word_without_videos_does_not_end_the_others(place: Path, word: str) -> None:
    (place / "empty").mkdir()
    assert find_videos(["a.mp4", word]) == ["a.mp4", word]


def test_a_missing_file_is_reported_beside_the_others(place: Path) -> None:
    assert find_videos(["nowhere.mp4", "a.mp4"]) == ["nowhere.mp4", "a.mp4"]
    with pytest.raises(UserError, match=r"nowhere\.mp4: no such file or folder"):
        find_videos(["nowhere.mp4", "neither.mp4"])


def test_a_folder_below_that_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "below").mkdir()
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path) == str(tmp_path / "below"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert find_videos([str(tmp_path)]) == [str(tmp_path / "a.mp4"), str(tmp_path / "below")]


def test_a_pattern_takes_videos_and_names_the_rest(place: Path, said: io.StringIO) -> None:
    (place / "README").touch()
    (place / "labels.csv").touch()
    found = find_videos(["**/*"])
    assert found == ["a.mp4", "b.mp4", "deep/d.AVI", "deep/er/c.webm", "frames"]
    assert said.getvalue() == (
        "**/*: 3 files left out that are not videos: README, labels.csv, notes.txt\n"
    )
    with pytest.raises(UserError, match=r"\*\.csv: 1 matches, but no video"):
        find_videos(["*.csv"])


def test_addresses(place: Path) -> None:
    base = f"file://{place}"
    address = f"{base}/deep/er/c.webm"
    assert find_videos([address, "a.mp4"]) == [address, "a.mp4"]
    assert find_videos([f"{base}/deep"]) == [f"{base}/deep/d.AVI", f"{base}/deep/er/c.webm"]
    assert find_videos([f"{base}/*.mp4"]) == [f"{base}/a.mp4", f"{base}/b.mp4"]
    with pytest.raises(UserError, match="no videos there"):
        find_videos([f"{base}/frames"])
    with pytest.raises(UserError, match="a live stream"):
        find_videos(["rtsp://host/camera"])
    with pytest.raises(UserError, match=f"{address}: is an address"):
        open_video(address)


def test_a_video_at_an_address(recognizer: Recognizer, tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", class_frames(0, 0))
    address, missing = f"file://{tmp_path}/a.mp4", f"file://{tmp_path}/b.mp4"
    there, gone = recognizer.predict_many([address, missing])
    local = recognizer.predict(str(tmp_path / "a.mp4"))
    assert (there.path, there.scores) == (address, local.scores)
    assert gone.error == f"{missing}: no such file"


# --- Videos in memory.


class Views:
    """A backend whose score is the mean brightness of a video's middle."""

    spec = ModelSpec("tsn_resnet18", 2, 2, input_size=32, short_side=32)
    recipe: ClassVar[dict[str, Any]] = {}
    side = None
    scaler = "pillow"

    def read(
        self, path: Any, plan: ViewPlan, damage: Any = None, part: Any = None
    ) -> NDArray[np.uint8]:
        return read_views(path, plan, part=part, damage=damage)

    def score(self, views: NDArray[np.uint8]) -> NDArray[np.float32]:
        mean = views.mean((1, 2, 3, 4, 5), dtype=np.float64).astype(np.float32) / 255
        return np.stack([mean, 1 - mean], axis=1)


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer(Views())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(
        tmp_path_factory.mktemp("memory") / "a.mkv", class_frames(0, 1, 8, 40), codec="ffv1"
    )


def frames_of(path: Path) -> NDArray[np.uint8]:
    with open_video(path) as opened:
        return opened.read(range(opened.num_frames))


def test_a_video_in_memory_scores_as_its_file(recognizer: Recognizer, video: Path) -> None:
    expected = recognizer.predict(video).scores
    frames, data = frames_of(video), video.read_bytes()
    opened = av.open(str(video))
    unnamed = av.open(io.BytesIO(data))
    tensor = torch.from_numpy(frames)
    with video.open("rb") as file:
        sources = [frames, frames.transpose(0, 3, 1, 2), tensor, data, bytearray(data), file]
        sources += [io.BytesIO(data), opened, unnamed]
        sources += [frames / 255, (tensor / 255).permute(0, 3, 1, 2), (tensor / 255).double()]
        found = list(recognizer.predict_many(sources))
    opened.close()
    unnamed.close()
    assert [p.error for p in found] == [""] * len(sources)
    assert [p.scores for p in found] == [expected] * len(sources)
    assert found[0].path == "<8 frames>"
    assert found[5].path == str(video)


def test_one_source_where_several_are_expected(recognizer: Recognizer, video: Path) -> None:
    for source in (str(video), video, video.read_bytes(), frames_of(video)):
        assert len(list(recognizer.predict_many(source))) == 1


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (np.zeros((8, 40, 40), np.uint8), "give RGB frames"),
        (np.zeros((8, 40, 40, 3), np.int64), "int64: give RGB frames"),
        (np.full((8, 40, 40, 3), 255.0), "from 255 to 255: floating-point values go from 0 to 1"),
        (torch.randn(8, 40, 40, 3), "no normalised values"),
        (np.full((8, 40, 40, 3), np.nan), "from nan to nan"),
        (np.zeros((8, 40, 40, 4), np.uint8), "give RGB frames"),
        (np.zeros((0, 40, 40, 3), np.uint8), "give RGB frames"),
        (5, "int: not a video"),
        (None, "NoneType: not a video"),
        (b"not a video", r"<11 bytes>: "),
        (io.BytesIO(), "<open file>: "),
        (io.StringIO("text"), "mode 'rb'"),
    ],
)
def test_objects_that_are_not_videos(recognizer: Recognizer, source: Any, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        recognizer.predict(source)
    assert "/tmp" not in str(caught.value)


def test_videos_in_memory_are_bounded(
    recognizer: Recognizer, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources_module, "MAX_BYTES", 1000)
    for source in (io.BytesIO(video.read_bytes()), av.open(io.BytesIO(video.read_bytes()))):
        with pytest.raises(UserError, match="more than 0 GiB"):
            recognizer.predict(source)


# --- Parts of videos.


@pytest.fixture(scope="module")
def brightening(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 s at 10 frames per second: 1 s dark, then 1 s bright."""
    frames = np.repeat(np.array([10, 240], np.uint8), 10)[:, None, None, None]
    frames = np.broadcast_to(frames, (20, 32, 32, 3))
    return write_video(tmp_path_factory.mktemp("parts") / "a.mp4", frames, fps=10)


def test_a_part_is_scored_alone(recognizer: Recognizer, brightening: Path) -> None:
    dark = recognizer.predict(brightening, end=1.0)
    bright = recognizer.predict(brightening, start=1.0)
    both = recognizer.predict(brightening, start=0.5, end=1.5)
    assert (dark.labels[0], bright.labels[0]) == ("1", "0")
    assert max(dark.scores[0], bright.scores[0]) > 0.9
    assert abs(both.scores[0] - 0.5) < 0.05
    assert dark.to_dict()["end"] == 1.0
    assert bright.name == f"{brightening} (1 s to the end)"
    with pytest.raises(UserError, match=r"no frame in the part 3 s to the end; the last frame is"):
        recognizer.predict(brightening, start=3)


def test_a_list_of_parts(
    recognizer: Recognizer, brightening: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(brightening.parent)
    Path("parts.csv").write_text("video,start,end\na.mp4,0,1\na.mp4,1,2\na.mp4,,\na.mp4,7,8\n")
    found = find_sources(["@parts.csv"])
    assert [source.part for source in found] == [Part(0, 1), Part(1, 2), None, Part(7, 8)]
    *there, gone = recognizer.predict_many(found)
    assert [prediction.labels[0] for prediction in there[:2]] == ["1", "0"]
    assert "no frame in the part 7 to 8 s" in gone.error
    assert gone.to_dict() == {"path": "a.mp4", "start": 7, "end": 8, "error": gone.error}
    with pytest.raises(UserError, match="has parts of its own; leave out --start"):
        find_sources(["@parts.csv"], Part(0, 1))
    with pytest.raises(UserError, match="whole videos are taken here"):
        find_videos(["@parts.csv"])
    Path("wrong.csv").write_text("video,start,end\na.mp4,2,1\n")
    with pytest.raises(UserError, match=r"wrong.csv:2: the part ends at 1, not after"):
        find_sources(["@wrong.csv"])
