"""The video with its label on it: decodable, of the same length, the label where it belongs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smnet.data.open import open_video
from smnet.errors import UserError
from smnet.inference import overlay as annotate
from smnet.inference.overlay import CHUNK, in_ascii, write_annotated
from smnet.inference.recognizer import Prediction
from tests.conftest import file_size_limit
from tests.videos import decode_all, moving_frames, write_video

ANSWER = Prediction("a.mp4", ("Pushing [something]", "Lifting", "Öffnen", "Rest"), (0.7, 0.2, 0.1))
ANSWER = Prediction("a.mp4", ANSWER.labels[:3], ANSWER.scores)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".MP4"])
@pytest.mark.parametrize("count", [1, CHUNK, CHUNK + 5])
def test_the_same_number_of_frames(tmp_path: Path, suffix: str, count: int) -> None:
    source = write_video(tmp_path / "in.mp4", moving_frames(count, 64, 48), fps=10)
    target = tmp_path / f"out{suffix}"
    write_annotated(source, target, ANSWER)
    assert len(decode_all(target)) == count
    with open_video(target) as video:
        assert (video.num_frames, video.width, video.height) == (count, 64, 48)
        assert video.codec == "h264"
        if count > 1:
            assert video.fps == pytest.approx(10, rel=0.01)


def test_the_picture_is_kept_and_the_label_is_on_its_lower_edge(tmp_path: Path) -> None:
    frames = np.full((4, 240, 320, 3), 200, dtype=np.uint8)
    frames[:, :, :, 0] = np.linspace(50, 250, 320).astype(np.uint8)
    source = write_video(tmp_path / "in.mp4", frames)
    write_annotated(source, tmp_path / "out.mp4", ANSWER)
    before, after = (np.stack(decode_all(tmp_path / n)).astype(int) for n in ("in.mp4", "out.mp4"))
    differ = np.abs(after - before).max(axis=(0, 2, 3))  # by row
    assert differ[:150].max() < 25
    assert differ[200:].min() > 40
    assert (after[:, 182:].min(axis=3) > 215).any()  # letters


def test_labels_of_the_moment(tmp_path: Path) -> None:
    frames = np.full((20, 120, 160, 3), 200, dtype=np.uint8)
    source = write_video(tmp_path / "in.mp4", frames, fps=10)
    empty = Prediction("in.mp4")
    write_annotated(source, tmp_path / "out.mp4", lambda time: ANSWER if time >= 1 else empty)
    lower = [frame[-10:].mean() for frame in decode_all(tmp_path / "out.mp4")]
    assert min(lower[:10]) > 180 > 150 > max(lower[10:])


@pytest.mark.parametrize("size", [(33, 47), (16, 16), (8, 64), (641, 121)])
def test_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, frame in enumerate(moving_frames(3, width, height)):
        Image.fromarray(frame).save(folder / f"{number}.png")
    write_annotated(folder, tmp_path / "out.mp4", ANSWER)
    frames = decode_all(tmp_path / "out.mp4")
    assert len(frames) == 3
    assert frames[0].shape == (height // 2 * 2, width // 2 * 2, 3)


def test_a_turned_video_is_written_upright(tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mp4", moving_frames(3, 64, 32), rotation=90)
    write_annotated(source, tmp_path / "out.mp4", ANSWER)
    assert decode_all(tmp_path / "out.mp4")[0].shape == (64, 32, 3)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_frames_are_shown_when_they_were(tmp_path: Path, suffix: str) -> None:
    shown = [0, 40, 80, 120, 3000, 3040, 3400]
    source = write_video(tmp_path / "in.mkv", moving_frames(7), timestamps=shown)
    write_annotated(source, tmp_path / f"out{suffix}", ANSWER)
    with open_video(tmp_path / f"out{suffix}") as video:
        assert video.times == pytest.approx([t / 1000 for t in shown], abs=1e-3)


def test_one_frame_in_hours(tmp_path: Path) -> None:
    source = write_video(
        tmp_path / "in.mkv", moving_frames(3), timestamps=[0, 6_000_000, 12_000_000]
    )
    write_annotated(source, tmp_path / "out.mp4", ANSWER)
    with open_video(tmp_path / "out.mp4") as video:
        assert video.times == pytest.approx([0, 6000, 12000])


def test_frames_too_small_to_draw_on(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(moving_frames(1, 64, 1)[0]).save(tmp_path / "in" / "1.png")
    with pytest.raises(UserError, match="64x1 pixels, too few to draw on"):
        write_annotated(tmp_path / "in", tmp_path / "out.mp4", ANSWER)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("name", ["out.avi", "out", "out.mp4.txt", "out.gif"])
def test_other_suffixes(tmp_path: Path, name: str) -> None:
    source = write_video(tmp_path / "in.mp4", moving_frames(2))
    with pytest.raises(UserError, match=rf"{name}: an annotated video is written as \.mp4"):
        write_annotated(source, tmp_path / name, ANSWER)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_an_unreadable_source_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "in.mp4").write_bytes(b"not a film")
    with pytest.raises(UserError, match=r"in\.mp4: "):
        write_annotated(tmp_path / "in.mp4", tmp_path / "out.mp4", ANSWER)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mp4", moving_frames(40, 128, 96))
    target = tmp_path / "out.mp4"
    target.write_text("old")
    with file_size_limit(2000), pytest.raises(UserError, match=r"cannot write .*out\.mp4: "):
        write_annotated(source, target, ANSWER)
    assert target.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_letters_that_the_font_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert in_ascii("Öffnen – 日本 %1") == "Offnen ? ?? %1"
    source = write_video(tmp_path / "in.mp4", moving_frames(2, 128, 96))
    frames = []
    for name, label in (("a", "Öffnen"), ("b", "Offnen")):
        monkeypatch.setattr(annotate, "_FONTS", ())
        write_annotated(source, tmp_path / f"{name}.mp4", Prediction("x", (label,), (1.0,)))
        frames.append(decode_all(tmp_path / f"{name}.mp4"))
    assert np.array_equal(*frames)  # of the font that Pillow brings


def test_the_video_itself_is_not_overwritten(tmp_path: Path) -> None:
    source = Path(write_video(tmp_path / "in.mp4", moving_frames(3, 32, 32)))
    before = source.read_bytes()
    other = tmp_path / "link.mp4"
    other.symlink_to(source)
    for target in (source, other):
        with pytest.raises(UserError, match="is the source video"):
            write_annotated(source, target, ANSWER)
    assert source.read_bytes() == before
