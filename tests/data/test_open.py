"""Video files: every frame against what plain sequential decoding gives."""

from __future__ import annotations

import gc
import os
import random
import time
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import smnet.data.video.base
from smnet.data.clips import Clip
from smnet.data.open import Video, median_seconds, open_video, probe
from smnet.data.video import packets, pyav
from smnet.errors import UserError
from tests.videos import decode_all, lose_packets, moving_frames, rewrite, write_video

FRAMES = moving_frames(40)
UNEVEN = np.cumsum(np.random.default_rng(1).integers(10, 90, len(FRAMES))).tolist()

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    # name: file name, arguments of write_video
    "b-frames": ("a.mp4", {"bframes": 3}),
    "pyramid": ("a.mkv", {"bframes": 3, "options": {"x264-params": "b-pyramid=normal:b-adapt=0"}}),
    "open-gop": ("a.mp4", {"bframes": 3, "options": {"x264-params": "open-gop=1:b-adapt=0"}}),
    "hevc-open-gop": (
        "a.mkv",
        {
            "codec": "libx265",
            "bframes": 3,
            "options": {"x265-params": "log-level=none:open-gop=1:keyint=12:b-adapt=0"},
        },
    ),
    "gradual-refresh": ("a.mp4", {"options": {"x264-params": "intra-refresh=1"}}),
    "uneven": ("a.mp4", {"bframes": 2, "timestamps": UNEVEN}),
    "one-keyframe": ("a.mp4", {"bframes": 3, "gop": 250}),
    "rotated": ("a.mov", {"rotation": 90}),
    "upside-down": ("a.mp4", {"rotation": 180}),
    "vp9": (
        "a.webm",
        {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}},
    ),
    "vp8": ("a.webm", {"codec": "libvpx", "options": {"cpu-used": "8", "deadline": "realtime"}}),
    "gif": ("a.gif", {"codec": "gif"}),
    "mpeg4": ("a.avi", {"codec": "mpeg4"}),
    "mpeg4-b-frames": ("a.avi", {"codec": "mpeg4", "bframes": 2}),
    "mpeg4-in-mp4": ("a.mp4", {"codec": "mpeg4", "bframes": 2}),
    "mpeg4-in-mkv": ("a.mkv", {"codec": "mpeg4", "bframes": 1, "gop": 250}),
    "mjpeg": ("a.avi", {"codec": "mjpeg"}),
    # below: decoded from the beginning
    "interlaced": ("a.mp4", {"options": {"x264-params": "interlaced=1"}}),
    "mpeg-ts": ("a.ts", {"bframes": 2}),
    "wmv": ("a.wmv", {"codec": "wmv2"}),
}
SEQUENTIAL = {
    "interlaced",
    "mpeg-ts",
    "wmv",
    "mpeg4",
    "mpeg4-b-frames",
    "mpeg4-in-mp4",
    "mpeg4-in-mkv",
}


@pytest.fixture(scope="session")
def make(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], tuple[Path, list[np.ndarray]]]:
    made: dict[str, tuple[Path, list[np.ndarray]]] = {}

    def _make(kind: str) -> tuple[Path, list[np.ndarray]]:
        if kind not in made:
            name, arguments = KINDS[kind]
            path = tmp_path_factory.mktemp(kind) / name
            write_video(path, FRAMES, **arguments)
            made[kind] = path, decode_all(path)
        return made[kind]

    return _make


def check_frames(video: Video, truth: list[np.ndarray], rounds: int = 12) -> None:
    rng = np.random.default_rng(0)
    assert video.num_frames == len(truth)
    for indices in [rng.integers(0, len(truth), size=rng.integers(1, 9)) for _ in range(rounds)] + [
        np.arange(len(truth))
    ]:
        frames = video.read(indices)
        assert frames.dtype == np.uint8
        assert frames.shape == (len(indices), *truth[0].shape)
        for frame, index in zip(frames, indices, strict=True):
            assert np.array_equal(frame, truth[index]), f"frame {index} of {indices}"
    assert video.damage == 0


@pytest.mark.parametrize("kind", KINDS)
def test_exact_frames(kind: str, make: Any) -> None:
    path, truth = make(kind)
    assert len(truth) == len(FRAMES)
    with open_video(path) as video:
        assert (video._packets.order is None) == (kind in SEQUENTIAL)
        check_frames(video, truth)
        assert (video.height, video.width) == truth[0].shape[:2]


@pytest.mark.parametrize("kind", ["b-frames", "open-gop", "vp9", "mpeg4-b-frames"])
def test_exact_where_the_file_is_too_large_to_hold(
    kind: str, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packets, "_HELD", 2000)
    monkeypatch.setattr(pyav, "_HELD_FRAMES", 2000)
    path, truth = make(kind)
    with open_video(path) as video:
        assert video._packets._held is None
        check_frames(video, truth, rounds=4)


def test_a_file_too_large_to_hold_is_read_on_or_sought(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packets, "_HELD", 2000)
    path, _ = make("b-frames")
    with open_video(path) as video:
        reader = video._packets
        stored = reader._stored
        begun: list[int] = []
        reader._stored = lambda start: (  # type: ignore[method-assign]
            begun.append(start),
            stored(start),
        )[1]
        assert len(list(video.each(range(video.num_frames)))) == video.num_frames
        assert begun == [0]  # one pass over all keyframes
        video.read([video.num_frames - 1])
        assert len(begun) == 2
        assert next(stored(begun[1]))[0] > 0


def test_the_median_length_of_clips(tmp_path: Path) -> None:
    lengths = (10, 20, 60)
    paths = [write_video(tmp_path / f"{n}.mp4", moving_frames(n), fps=20) for n in lengths]
    clips = [Clip(str(path), 0, path.name) for path in paths]
    assert median_seconds(clips) == pytest.approx(1.0)
    parts = [Clip(str(paths[2]), 0, "x", start=a, end=b) for a, b in ((0, 0.5), (1, None))]
    assert median_seconds(parts) == pytest.approx((0.5 + 2) / 2)
    assert median_seconds([Clip("nowhere.mp4", 0, "x")]) is None
    assert median_seconds([]) is None


def test_only_the_needed_packets_are_decoded(make: Any) -> None:
    path, _ = make("b-frames")
    with open_video(path) as video:
        plain = video._decode
        ran: list[int] = []
        video._decode = lambda start, stop, wanted: (  # type: ignore[method-assign]
            ran.append(stop - start),
            plain(start, stop, wanted),
        )[1]
        video.read([0, 39])
        assert sum(ran) < 20


def test_open_gop_has_leading_frames_and_refresh_needs_repair(make: Any) -> None:
    """Or else the two kinds above test nothing."""
    with open_video(make("open-gop")[0]) as video:
        table = video._packets.table
        assert any(b.pts < a.pts for a, b in pairwise(table) if a.is_keyframe and not b.is_keyframe)
    path, truth = make("gradual-refresh")
    with open_video(path) as video:
        repaired: list[int] = []
        plain = video._repair
        video._repair = lambda lost, order: (  # type: ignore[method-assign]
            repaired.extend(lost),
            plain(lost, order),
        )[1]
        for i in range(12, 16):
            assert np.array_equal(video.read([i])[0], truth[i])
        assert repaired
        assert video.damage == 0


def test_facts(make: Any) -> None:
    info = probe(make("uneven")[0])
    assert info.num_frames == 40
    assert info.duration == pytest.approx((UNEVEN[-1] - UNEVEN[0]) / 1000 * 40 / 39)
    assert info.codec == "h264"
    assert info.rotation == 0
    with open_video(make("rotated")[0]) as video:
        assert (video.width, video.height, video.info.rotation) == (48, 64, 90)
        assert video.fps == pytest.approx(25)
        assert video.duration == pytest.approx(1.6)
        assert video.codec == "h264"
    assert probe(make("upside-down")[0]).rotation == 180
    info = probe(make("vp9")[0])
    assert (info.codec, info.container, info.width, info.height) == ("vp9", "matroska,webm", 64, 48)


def test_rotation_turns_the_right_way(tmp_path: Path) -> None:
    frames = np.zeros((2, 48, 64, 3), dtype=np.uint8)
    frames[:, :16, 48:] = 255  # a white spot, top right
    path = write_video(tmp_path / "a.mp4", frames, rotation=90)
    with open_video(path) as video:
        turned = video.read([1])[0]
    assert turned.shape == (64, 48, 3)
    assert turned[4:12, 4:12].mean() > 200  # anticlockwise: top left
    assert turned.mean() < 60


def test_cut_from_the_middle_of_a_gop(make: Any, tmp_path: Path) -> None:
    path = rewrite(make("b-frames")[0], tmp_path / "cut.mkv", keep=range(5, 40))
    with open_video(path) as video:
        check_frames(video, decode_all(path), rounds=3)


def test_cut_at_the_keyframe_of_an_open_gop(make: Any, tmp_path: Path) -> None:
    source = make("hevc-open-gop")[0]
    with open_video(source) as video:
        second = [i for i, packet in enumerate(video._packets.table) if packet.is_keyframe][1]
    path = rewrite(source, tmp_path / "cut.mkv", keep=range(second, 40))
    truth = decode_all(path)
    assert len(truth) < 40 - second, "the leading frames cannot be decoded"
    with open_video(path) as video:
        check_frames(video, truth, rounds=3)


def test_edit_list(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "edited.mp4"
    with (
        av.open(str(make("b-frames")[0])) as old,
        av.open(str(path), "w", container_options={"avoid_negative_ts": "disabled"}) as new,
    ):
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        six = round(6 / 25 / stream.time_base)
        for packet in old.demux(stream):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts - six, packet.dts - six, copy
                new.mux(packet)
    truth = decode_all(path)
    assert len(truth) == 34
    with open_video(path) as video:
        check_frames(video, truth)


def test_vp8_hidden_references(make: Any, tmp_path: Path) -> None:
    source, _ = make("vp8")
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    at = data.index(packets[17])
    data[at] &= ~0x10  # show_frame
    path = tmp_path / "hidden.webm"
    path.write_bytes(data)
    truth = decode_all(path)
    assert len(truth) == 39
    with open_video(path) as video:
        assert video._packets.order is not None
        check_frames(video, truth)


def test_size_changing_in_the_stream_is_scaled_to_the_first(tmp_path: Path) -> None:
    options = {"codec": "libvpx", "options": {"deadline": "realtime"}}
    large = write_video(tmp_path / "l.webm", FRAMES[:10], **options)
    small = write_video(tmp_path / "s.webm", FRAMES[:10, ::2, ::2], **options)
    path = tmp_path / "both.webm"
    with av.open(str(path), "w") as new, av.open(str(large)) as one, av.open(str(small)) as two:
        copy = new.add_stream_from_template(one.streams.video[0])
        for shift, old in ((0, one), (400, two)):
            for packet in old.demux(video=0):
                if packet.size:
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, None, copy
                    packet.dts = packet.pts
                    new.mux(packet)
    with open_video(path) as video:
        assert video.read([0, 19]).shape == (2, 48, 64, 3)
        assert video.read([19]).shape == (1, 48, 64, 3)


def test_short_side(make: Any, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_frames(3, 320, 240), rotation=90)
    with open_video(path) as video:
        full, small = video.read([0, 2]), video.read([0, 2], short_side=60)
        assert small.shape == (2, 80, 60, 3)
        assert np.array_equal(video.read([0, 2], short_side=240), full)
        box = full.reshape(2, 80, 4, 60, 4, 3).mean(axis=(2, 4))
        assert np.abs(small - box).mean() < 8


@pytest.mark.parametrize(
    ("indices", "words"),
    [
        ([40], "frame 40 asked for, but it has frames 0 to 39"),
        ([0, -1], "frame -1 asked for"),
        ([], "non-empty"),
        ([0.5], "whole numbers"),
        ([[0]], "whole numbers"),
    ],
)
def test_bad_indices(indices: Any, words: str, make: Any) -> None:
    path, _ = make("b-frames")
    with open_video(path) as video, pytest.raises(UserError, match=words):
        video.read(indices)
    with open_video(path) as video, pytest.raises(UserError, match="short_side is 0"):
        video.read([0], short_side=0)


# --- broken files -------------------------------------------------------------------------------


def refused(path: Path, **arguments: Any) -> str:
    with pytest.raises(UserError) as caught, open_video(path, **arguments) as video:
        video.read([0])
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def test_what_cannot_be_read_is_named(make: Any, tmp_path: Path) -> None:
    whole = make("b-frames")[0].read_bytes()
    cases = {
        "missing.mp4": (None, "no such file"),
        "empty.mp4": (b"", "is empty"),
        "text.mp4": (b"not found\n" * 30, "not a video"),
        "header.mp4": (whole[:400], "index (moov) is lost"),
    }
    for name, (content, words) in cases.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        assert words in refused(path)


def test_more_that_cannot_be_read(make: Any, tmp_path: Path) -> None:
    image = tmp_path / "photo.jpg"
    with av.open(str(image), "w", format="image2") as container:
        stream = container.add_stream("mjpeg")
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(FRAMES[0], format="rgb24")))
        container.mux(stream.encode(None))
    assert "not a video but a JPEG picture" in refused(image)
    assert "for folders" in refused(make("b-frames")[0], template="%05d.jpg")
    assert "no such file" in refused(Path("http://localhost/clip.mp4"))
    with pytest.raises(UserError, match="not a usable path"):
        open_video("a" * 5000 + ".mp4")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.mp4")
        assert "neither a file nor a folder" in refused(tmp_path / "pipe.mp4")


def write_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 16000), dtype=np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_sound_only(tmp_path: Path) -> None:
    assert "has sound only" in refused(write_sound(tmp_path / "a.mp4"))


def test_no_frames(make: Any, tmp_path: Path) -> None:
    path, sound = tmp_path / "none.mkv", write_sound(tmp_path / "a.mp4")
    with (
        av.open(str(make("b-frames")[0])) as old,
        av.open(str(sound)) as audio,
        av.open(str(path), "w") as new,
    ):
        new.add_stream_from_template(old.streams.video[0])
        copy = new.add_stream_from_template(audio.streams.audio[0])
        for packet in audio.demux(audio=0):
            if packet.size:
                packet.stream = copy
                new.mux(packet)
    assert "has no frames" in refused(path)


def test_playlists_are_not_followed(make: Any, tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_bytes(make("mpeg-ts")[0].read_bytes())
    path = tmp_path / "list.mp4"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.6,\na.ts\n#EXT-X-ENDLIST\n")
    refused(path)
    path = path.rename(tmp_path / "list.m3u8")
    assert "not a video but a playlist" in refused(path)
    path.write_text("ffconcat version 1.0\nfile a.ts\n")
    assert "not a video but a playlist" in refused(path)


def test_nothing_decodes(make: Any, tmp_path: Path) -> None:
    source, _ = make("vp9")
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        for packet in container.demux(video=0):
            if packet.size:
                at = data.index(bytes(packet))
                data[at : at + packet.size] = b"\xff" * packet.size
    path = tmp_path / "ff.webm"
    path.write_bytes(data)
    refused(path)


def test_absurd_sizes(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = make("b-frames")
    monkeypatch.setattr(pyav, "MAX_PIXELS", 1000)
    assert "none of its 40 packets decodes" in refused(path)  # the decoder's own limit
    monkeypatch.setattr(smnet.data.video.base, "MAX_PIXELS", 1000)
    assert "64x48 pixels exceed the limit" in refused(path)


@pytest.mark.parametrize("kind", ["b-frames", "mpeg4-b-frames"])
def test_time_limit(kind: str, make: Any) -> None:
    path, _ = make(kind)
    assert "not read within 0 seconds" in refused(path, timeout=0)
    with open_video(path, timeout=None) as video:
        assert video.read([0]).shape[0] == 1


def test_time_limit_of_one_read(make: Any) -> None:
    with open_video(make("b-frames")[0]) as video:
        video._packets.clock._timeout = 0
        with pytest.raises(UserError, match="not read within"):
            video.read([0])


def test_time_limit_reaches_a_demuxer_in_search_of_a_packet(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "endless.webm"
    path.write_bytes(make("vp9")[0].read_bytes()[:-300])
    os.truncate(path, 16 << 30)  # zeros that take no room on the disk, but minutes to read
    began = time.monotonic()
    assert "not read within 0.3 seconds" in refused(path, timeout=0.3)
    assert time.monotonic() - began < 20


def test_after_closing(make: Any) -> None:
    with open_video(make("b-frames")[0]) as video:
        video.read([3])
    for use in (lambda: video.read([3]), lambda: video.fps):
        with pytest.raises(UserError, match="is closed"):
            use()
    assert video.num_frames == 40


def test_a_lost_frame_is_replaced_by_the_nearest_and_counted(make: Any, tmp_path: Path) -> None:
    source, truth = make("mjpeg")
    path = lose_packets(source, tmp_path / "hurt.avi", [7])
    with open_video(path) as video:
        assert video.num_frames == 40
        frames = video.read([6, 7, 8])
        assert np.array_equal(frames[0], truth[6])
        assert np.array_equal(frames[2], truth[8])
        assert any(np.array_equal(frames[1], truth[i]) for i in (6, 8))
        assert video.damage == 2  # the packet and the frame
        video.read([7])
        assert video.damage == 2
        video.read([20])
        assert video.damage == 2


@pytest.mark.parametrize("kind", ["vp9", "mpeg4", "b-frames"])
def test_truncated(kind: str, make: Any, tmp_path: Path) -> None:
    source, truth = make(kind)
    path = tmp_path / source.name
    share = 0.6 if kind == "b-frames" else 0.85  # the headers of these small files are large
    path.write_bytes(source.read_bytes()[: int(source.stat().st_size * share)])
    if kind == "b-frames":
        assert "index (moov) is lost" in refused(path)
        return
    with open_video(path) as video:
        assert 5 < video.num_frames < 40
        frames = video.read(range(video.num_frames - 1))
        assert all(np.array_equal(frame, truth[i]) for i, frame in enumerate(frames))


@pytest.mark.parametrize(
    "kind", ["b-frames", "vp9", "mpeg4", "mpeg4-b-frames", "mpeg-ts", "hevc-open-gop"]
)
def test_fuzzed_files_give_frames_or_one_line(kind: str, make: Any, tmp_path: Path) -> None:
    source, _ = make(kind)
    rng = random.Random(kind)
    whole, other = source.read_bytes(), make("pyramid")[0].read_bytes()
    for round_ in range(18):
        data = bytearray(whole)
        start, end = sorted(rng.choices(range(len(data)), k=2))
        if round_ % 6 < 3:
            for _ in range(rng.choice([1, 5, 40])):
                data[rng.randrange(len(data))] = rng.randrange(256)
        if round_ % 6 == 0:
            del data[start:]
        elif round_ % 6 == 3:
            data[:1024] = other[:1024]
        elif round_ % 6 == 4:
            data[start : start + 500] = bytes(len(data[start : start + 500]))
        elif round_ % 6 == 5:
            data[start:start] = data[end : end + 500]
        path = tmp_path / f"{round_}{source.suffix}"
        path.write_bytes(data)
        began = time.monotonic()
        try:
            with open_video(path, timeout=5) as video:
                indices = [0, video.num_frames // 2, video.num_frames - 1]
                assert video.read(indices).shape[0] == 3
                assert video.damage >= 0
        except UserError as error:
            complaint = str(error)
        else:
            complaint = str(path)
        assert complaint.startswith(str(path))
        assert time.monotonic() - began < 20


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts through /proc")
def test_neither_files_nor_memory_leak(make: Any, tmp_path: Path) -> None:
    good, sequential = make("b-frames")[0], make("mpeg4-b-frames")[0]
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(good.read_bytes()[:500])

    def use() -> None:
        for path in (good, sequential):
            with open_video(path) as video:
                video.read([3, 30])
            video.close()
        with pytest.raises(UserError):
            open_video(bad)

    def state() -> tuple[int, int]:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return len(os.listdir("/proc/self/fd")), pages * os.sysconf("SC_PAGE_SIZE")

    for _ in range(20):
        use()
    files, memory = state()
    for _ in range(80):
        use()
    files_after, memory_after = state()
    assert files_after <= files
    assert memory_after - memory < 10 << 20


# --- real clips ---------------------------------------------------------------------------------


@pytest.mark.skipif(
    "SMNET_TEST_CLIPS" not in os.environ,
    reason="set SMNET_TEST_CLIPS to a folder of real clips to read them all",
)
def test_real_clips() -> None:
    root = Path(os.environ["SMNET_TEST_CLIPS"])
    suffixes = {".avi", ".gif", ".mkv", ".mov", ".mp3", ".mp4", ".webm"}
    files = sorted(p for p in root.rglob("*") if p.suffix in suffixes)
    assert files
    complaints, expected = [], []
    for path in files:
        try:
            truth = decode_all(path)
        except (av.FFmpegError, IndexError):
            truth = []
        try:
            video = open_video(path)
        except UserError as error:
            complaints.append(str(error))
            expected.append((str(path), not truth))
            continue
        with video:
            frames = video.read(range(video.num_frames))
            if truth:
                assert video.num_frames == len(truth), path
                assert all(map(np.array_equal, frames, truth)), path
                for i in range(0, len(truth), 1 + len(truth) // 40):
                    assert np.array_equal(video.read([i])[0], truth[i]), f"{path}: frame {i} alone"
    for complaint, (name, hopeless) in zip(complaints, expected, strict=True):
        assert complaint.startswith(name)
        assert hopeless, complaint
    for folder in {p.parent for p in root.rglob("*.jpg")}:
        with open_video(folder) as video:
            assert video.num_frames == len(list(folder.iterdir()))
            assert len(video.read(range(video.num_frames))) == video.num_frames


def test_the_rate_is_the_mean_where_frames_come_unevenly(tmp_path: Path) -> None:
    """Matroska declares one for the whole file."""
    times = [0, 40, 80, 2000, 2040, 4000, 4040, 4080, 8000, 8040]
    path = write_video(tmp_path / "a.mkv", FRAMES[: len(times)], timestamps=times)
    assert probe(path).fps == pytest.approx(9 / 8.04)
    even = write_video(tmp_path / "even.mkv", FRAMES[:10], fps=Fraction(30000, 1001))
    assert probe(even).fps == pytest.approx(29.97, abs=1e-2)


def test_marred_frames_of_files_that_are_decoded_in_sequence(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", moving_frames(40, 64, 48), gop=12)
    data = path.read_bytes()
    marred = 0
    for at in range(len(data) // 4, len(data) - 400, 188):
        path.write_bytes(data[:at] + bytes(i * 37 % 251 for i in range(16)) + data[at + 16 :])
        with open_video(path) as video:
            frames = [frame.is_corrupt for frame in video._decode_all()]  # type: ignore[attr-defined]
            video.read(range(video.num_frames))
            assert video.damage >= sum(frames)
            marred += sum(frames)
    assert marred


def test_frame_rates_that_are_not_whole(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", FRAMES[:5], fps=Fraction(30000, 1001))
    assert probe(path).fps == pytest.approx(29.97, abs=1e-2)
