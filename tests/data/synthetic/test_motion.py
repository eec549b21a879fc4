from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from smnet.data.synthetic import motion, scenes
from smnet.data.synthetic.motion import MOTION_CLASSES, MOTION_PAIRS, draw_clip, write_motion
from smnet.errors import UserError

SMALL: dict[str, Any] = {"train": 23, "val": 10, "size": 32, "seed": 7}


def decoded(file: Path | io.BytesIO) -> NDArray[np.uint8]:
    with av.open(file if isinstance(file, io.BytesIO) else str(file)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames)


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_motion(tmp_path_factory.mktemp("data") / "motion", **SMALL, workers=1)


# --- The classes.


def test_classes_are_in_folder_order_and_every_one_has_its_reversal() -> None:
    assert list(MOTION_CLASSES) == sorted(MOTION_CLASSES)
    assert len(MOTION_CLASSES) == 10
    assert sorted(label for pair in MOTION_PAIRS for label in pair) == list(range(10))
    named = {(MOTION_CLASSES[a], MOTION_CLASSES[b]) for a, b in MOTION_PAIRS}
    left, right = "Moving something from left to right", "Moving something from right to left"
    assert (left, right) in named
    assert ("Turning something clockwise", "Turning something counterclockwise") in named


@pytest.mark.parametrize("pair", MOTION_PAIRS)
def test_a_pair_differs_by_the_order_of_frames_alone(pair: tuple[int, int]) -> None:
    forwards, backwards = (draw_clip(label, np.random.default_rng(3), size=64) for label in pair)
    assert np.array_equal(forwards, backwards[::-1])
    assert not np.array_equal(forwards, backwards)


def test_coding_leaves_no_trace_of_the_direction_of_time() -> None:
    clip = draw_clip(1, np.random.default_rng(4), size=64)
    forwards, backwards = (
        decoded(io.BytesIO(motion.encode(frames))) for frames in (clip, clip[::-1])
    )
    assert np.array_equal(forwards, backwards[::-1])
    # and the pictures survive it
    assert np.abs(forwards.astype(int) - clip).mean() < 12


@pytest.mark.parametrize(
    ("name", "sign"),
    [("Moving something from left to right", 1), ("Moving something from right to left", -1)],
)
def test_the_thing_goes_where_the_class_says(name: str, sign: int) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        action, backwards = scenes._ACTIONS[name]
        (thing,) = action(rng, 30)
        way = thing.x[::-1] if backwards else thing.x
        assert sign * (way[-1] - way[0]) > 0.3  # six times the largest distractor


def test_actions_do_what_their_names_say() -> None:
    def things(name: str, seed: int) -> list[Any]:
        action, backwards = scenes._ACTIONS[name]
        assert not backwards
        return action(np.random.default_rng(seed), 30)

    for seed in range(20):
        (thing,) = things("Moving something down", seed)
        assert thing.y[-1] - thing.y[0] > 0.3
        (thing,) = things("Moving something towards the camera", seed)
        assert thing.radius[-1] > 2 * thing.radius[0]
        (thing,) = things("Turning something clockwise", seed)
        # y points down, so a growing angle turns x into y: clockwise as seen
        assert thing.angle[-1] - thing.angle[0] > 1.3
        one, other = things("Moving two things apart", seed)
        gap = np.hypot(one.x - other.x, one.y - other.y)
        assert gap[-1] > 1.5 * gap[0]


def test_a_turning_thing_is_seen_to_turn_clockwise(monkeypatch: pytest.MonkeyPatch) -> None:
    # On a still, plain ground: where a mark of the picture goes, not what the numbers say.
    rng = np.random.default_rng(0)
    still = np.zeros(9, np.float32)
    thing = scenes._Object(still + 0.5, still + 0.5, still + 0.4, np.linspace(0, 1.5, 9, dtype="f"))
    canvas = np.zeros((9, 3, 64, 64), np.float32)
    shake = np.zeros((2, 9), np.float32)
    mark = lambda rng, turnable: lambda u, v: np.hypot(u - 0.6, v) - 0.3  # noqa: E731
    monkeypatch.setattr(scenes, "_outline", mark)
    scenes._paint_object(rng, thing, canvas, shake)
    weight = canvas.sum(1)
    rows = (weight.sum(2) * np.arange(64)).sum(1) / weight.sum((1, 2))
    columns = (weight.sum(1) * np.arange(64)).sum(1) / weight.sum((1, 2))
    assert columns[0] > 42  # right of the middle at first,
    assert abs(rows[0] - 31.5) < 3
    assert rows[-1] > 42  # then below it: as the hands of a clock
    assert abs(columns[-1] - 31.5) < 4


# --- What is not the action has no direction of time.


@pytest.mark.parametrize("draw", [scenes._progress, lambda r, n: scenes._wander(r, n, 0.2)])
def test_chance_has_no_arrow_of_time(draw: Any) -> None:
    drawn = np.stack([draw(np.random.default_rng(seed), 24) for seed in range(2000)])
    centred = drawn - 0.5 if draw is scenes._progress else drawn
    reversed_ = -centred[:, ::-1] if draw is scenes._progress else centred[:, ::-1]
    for statistic in (lambda x: x, np.square, lambda x: np.diff(x) ** 2, lambda x: x**3):
        here, there = statistic(centred), statistic(reversed_)
        error = np.sqrt((here.var(0) + there.var(0)) / len(here)) + 1e-6
        assert (np.abs(here.mean(0) - there.mean(0)) / error).max() < 4.5


def maps_of_change(label: int) -> NDArray[np.float64]:
    """(60 clips, 12 frames, 64 places): how far each place is from its own middle in time."""
    maps = []
    for seed in range(60):
        clip = draw_clip(label, np.random.default_rng([label, seed]), size=32, frames=12)
        change = np.abs(clip - np.median(clip, axis=0)).sum(3)
        maps.append(change.reshape(12, 8, 4, 8, 4).mean((2, 4)).reshape(12, 64))
    return np.stack(maps)


def largest_difference(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Of the means of two samples, in standard errors, over all features."""
    error = np.sqrt((one.var(0) + other.var(0)) / len(one))
    return float((np.abs(one.mean(0) - other.mean(0)) / error).max())


@pytest.mark.parametrize("pair", MOTION_PAIRS)
def test_frames_of_a_pair_differ_in_order_and_in_nothing_else(pair: tuple[int, int]) -> None:
    one, other = (maps_of_change(label) for label in pair)
    for unordered in (np.mean, np.std, np.max):
        assert largest_difference(unordered(one, axis=1), unordered(other, axis=1)) < 4
    if not MOTION_CLASSES[pair[0]].startswith("Turning"):  # which moves nothing from place to place
        trend = [maps[:, 8:].mean(1) - maps[:, :4].mean(1) for maps in (one, other)]
        assert largest_difference(*trend) > 5


# --- One clip.


def test_draw_clip_is_a_function_of_its_rng() -> None:
    one, same, other = (draw_clip(6, np.random.default_rng(s), size=48) for s in (1, 1, 2))
    assert np.array_equal(one, same)
    assert one.shape != other.shape or not np.array_equal(one, other)
    assert one.dtype == np.uint8
    assert one.shape[1:] == (48, 48, 3)
    assert one.flags.c_contiguous


def test_draw_clip_length() -> None:
    lengths = {len(draw_clip(0, np.random.default_rng(s), size=32)) for s in range(40)}
    assert min(lengths) >= 24
    assert max(lengths) <= 36
    assert len(lengths) > 8
    assert len(draw_clip(0, np.random.default_rng(0), size=32, frames=9)) == 9


@pytest.mark.parametrize("size", [32, 256])
@pytest.mark.parametrize("label", range(10))
def test_draw_clip_at_the_smallest_and_largest_size(size: int, label: int) -> None:
    clip = draw_clip(label, np.random.default_rng(5), size=size, frames=8)
    assert clip.shape == (8, size, size, 3)
    assert clip.std() > 5


@pytest.mark.parametrize(
    ("label", "options"),
    [
        (-1, {}),
        (10, {}),
        (0, {"size": 31}),
        (0, {"size": 33}),
        (0, {"size": 258}),
        (0, {"frames": 7}),
        (0, {"frames": 10**9}),
        (0, {"size": 96.0}),
    ],
)
def test_draw_clip_refuses(label: int, options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="motion"):
        draw_clip(label, np.random.default_rng(0), **options)


# --- The data set.


def test_files_are_h264_and_decode_whole(data: Path) -> None:
    lengths = set()
    for path in data.rglob("*.mp4"):
        with av.open(str(path)) as container:
            (stream,) = container.streams
            assert stream.codec_context.name == "h264"
            assert stream.codec_context.pix_fmt == "yuv420p"
            assert (stream.width, stream.height) == (32, 32)
            assert stream.average_rate == 12
            said = stream.frames
        clip = decoded(path)
        assert len(clip) == said
        lengths.add(said)
    assert min(lengths) >= 24
    assert max(lengths) <= 36
    assert len(lengths) > 5


def test_a_file_holds_the_clip_of_its_seed_split_and_number(data: Path) -> None:
    path = data / "val" / MOTION_CLASSES[3] / "00003.mp4"
    drawn = draw_clip(3, np.random.default_rng([7, 1, 3]), size=32)
    assert np.array_equal(decoded(path), decoded(io.BytesIO(motion.encode(drawn))))


def test_classes_are_balanced_and_numbers_used_once(data: Path) -> None:
    for split, clips in (("train", 23), ("val", 10)):
        files = sorted((data / split).rglob("*"))
        counts = Counter(path.parent.name for path in files if path.is_file())
        assert sorted(counts) == sorted(MOTION_CLASSES)
        assert max(counts.values()) - min(counts.values()) <= 1
        names = sorted(path.stem for path in files if path.is_file())
        assert names == [f"{index:05d}" for index in range(clips)]


def test_splits_and_seeds_share_no_clip(data: Path, tmp_path: Path) -> None:
    other = write_motion(tmp_path / "m", **{**SMALL, "seed": 8}, workers=1)
    videos = [p.read_bytes() for root in (data, other) for p in root.rglob("*.mp4")]
    assert len(set(videos)) == len(videos) == 2 * 33


def test_workers_do_not_change_a_byte(data: Path, tmp_path: Path) -> None:
    assert tree(write_motion(tmp_path / "m", **SMALL, workers=3)) == tree(data)


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_motion(tmp_path / "m", **SMALL, progress=lambda *at: seen.append(at))
    assert seen == [(done, 33) for done in range(34)]


def test_a_complete_data_set_is_left_alone(data: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    seen: list[tuple[int, int]] = []
    write_motion(data, **SMALL, progress=lambda *at: seen.append(at))
    assert seen == [(33, 33)]
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before


def test_lost_clips_are_drawn_again(data: Path, tmp_path: Path) -> None:
    root = tmp_path / "m"
    shutil.copytree(data, root)
    shutil.rmtree(root / "val" / MOTION_CLASSES[0])
    (root / "train" / MOTION_CLASSES[1] / "00001.mp4").unlink()
    write_motion(root, **SMALL)
    assert tree(root) == tree(data)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_resume_after_a_kill_gives_the_same_files(data: Path, tmp_path: Path) -> None:
    root = tmp_path / "m"
    code = (
        "import os, signal, sys\n"
        "from smnet.data.synthetic.motion import write_motion\n"
        "def stop(done, total):\n"
        "    if done == 9: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"write_motion(sys.argv[1], **{SMALL!r}, workers=2, progress=stop)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(root)], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert json.loads((root / "motion.json").read_text())["complete"] is False
    assert len(list(root.rglob("*.mp4"))) == 9
    # what a kill in the middle of a file leaves behind: swept when old, another run's when young
    folder = next(path.parent for path in root.rglob("*.mp4"))
    old, young = folder / ".00022.x.mp4", folder / ".00023.x.mp4"
    for path, age in ((old, 3600), (young, 0)):
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)

    seen: list[tuple[int, int]] = []
    write_motion(root, **SMALL, progress=lambda *at: seen.append(at))
    assert seen[0] == (9, 33)
    assert not old.exists()
    young.unlink()
    assert tree(root) == tree(data)


def test_an_error_while_drawing_leaves_a_data_set_that_can_be_finished(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    root = tmp_path / "m"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fill)
        with pytest.raises(UserError, match=r"cannot write .*00000\.mp4: No space left"):
            write_motion(root, **SMALL)
    assert not list(root.rglob("*.mp4"))
    write_motion(root, **SMALL)
    assert tree(root) == tree(data)


@pytest.mark.parametrize(
    "name", ["photo.jpg", "train/Moving something down/00001.mp4", "motion.json"]
)
def test_refuses_a_folder_that_holds_something_else(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"[1, 2]")
    with pytest.raises(UserError, match=r"motion data set; .*folder"):
        write_motion(tmp_path / "m", **SMALL)
    assert tree(tmp_path) == {str(path.relative_to(tmp_path)): b"[1, 2]"}


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{", b"[" * 60000, b'{"data": "other"}'])
def test_refuses_a_foreign_card(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "motion.json").write_bytes(content)
    with pytest.raises(UserError, match="not the card of a motion data set"):
        write_motion(tmp_path, **SMALL)


@pytest.mark.parametrize("change", [{"train": 24}, {"val": 11}, {"size": 34}, {"seed": 8}])
def test_refuses_other_parameters(data: Path, change: dict[str, int]) -> None:
    before = tree(data)
    ((key, _),) = change.items()
    with pytest.raises(UserError, match=rf"other parameters \({key}={SMALL[key]}\)"):
        write_motion(data, **{**SMALL, **change})
    assert tree(data) == before


def test_refuses_a_foreign_clip_among_ours(data: Path, tmp_path: Path) -> None:
    root = tmp_path / "m"
    shutil.copytree(data, root)
    (root / "train" / "My class").mkdir()
    (root / "train" / "My class" / "holiday.mp4").write_bytes(b"x")
    with pytest.raises(UserError, match=r"holiday\.mp4 is not part of this motion data set"):
        write_motion(root, **SMALL)


def test_refuses_a_file_as_root(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        write_motion(tmp_path / "m", **SMALL)
    with pytest.raises(UserError, match=r"cannot (read|write)"):
        write_motion(tmp_path / "m" / "deeper", **SMALL)


@pytest.mark.parametrize(
    "options",
    [
        {"train": 9},
        {"train": 10**7},
        {"val": 0},
        {"val": True},
        {"size": 95},
        {"size": 4096},
        {"seed": -1},
        {"seed": 2**63},
        {"seed": 0.5},
        {"workers": 0},
        {"workers": 1000},
    ],
)
def test_refuses_absurd_parameters(tmp_path: Path, options: dict[str, Any]) -> None:
    ((key, _),) = options.items()
    with pytest.raises(UserError, match=f"motion: {key}="):
        write_motion(tmp_path / "m", **{**SMALL, **options})
    assert not (tmp_path / "m").exists()


def test_says_so_without_the_encoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(motion, "_ENCODER", "no_such_encoder")
    with pytest.raises(UserError, match="no encoder"):
        write_motion(tmp_path / "m", **SMALL)
