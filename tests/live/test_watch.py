"""Streams end to end: files, motion JPEG on the loopback address, faults, load, events."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smnet.errors import UserError
from smnet.inference.backends import open_backend, plan_views
from smnet.inference.recognizer import Recognizer
from smnet.inference.streams import open_stream, score_clip
from smnet.live.sources import source_of
from smnet.live.watch import Answer, Watch, watch
from smnet.timeline.curves import score_recording
from smnet.timeline.segments import Limits
from tests.conftest import Called
from tests.videos import decode_all, moving_frames, write_video

from .conftest import RATE, SEGMENTS, write_checkpoint
from .servers import Mjpeg, rtsp_camera


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4.8 seconds at 25 frames per second: 24 ticks of the rate."""
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4", moving_frames(120, 48, 32))


def answers(stream: Watch, most: int = 1000) -> list[Answer]:
    found = []
    for answer in stream:
        found.append(answer)
        if len(found) == most:
            break
    stream.close()
    return found


def without_end(found: list[Answer]) -> list[Answer]:
    """Without the last answer, which ends the open events."""
    return [answer for answer in found if answer.labels or not answer.events]


def scores_of(answer: Answer) -> dict[str, float]:
    return dict(zip(answer.labels, answer.scores, strict=True))


def test_windows_are_what_predict_says_of_those_frames(two_sided: Path, film: Path) -> None:
    found = without_end(answers(watch(two_sided, str(film), device="cpu")))
    assert len(found) == 24
    assert [answer.labels for answer in found[: SEGMENTS - 1]] == [()] * (SEGMENTS - 1)
    frames = np.stack(decode_all(film))[::5]
    recognizer = Recognizer.load(two_sided, "cpu")
    for number in (SEGMENTS - 1, 11, 23):
        expected = recognizer.predict(frames[number - SEGMENTS + 1 : number + 1])
        assert scores_of(found[number]) == dict(zip(expected.labels, expected.scores, strict=True))
        assert found[number].seconds == pytest.approx(number / RATE)
        assert found[number].middle == pytest.approx((number - 1.5) / RATE)


def test_causal_answers_are_steps(causal: Path, film: Path) -> None:
    stream = watch(causal, str(film), device="cpu")
    assert stream.scorer.mode == "causal"
    assert stream.scorer.state_bytes > 0
    found = without_end(answers(stream))
    frames = [stream.scorer.prepare(f) for f in decode_all(film)[::5]]
    first = score_clip(open_stream(causal, "cpu"), np.stack(frames[:SEGMENTS]))
    clip = open_backend(causal, "cpu").score(np.stack(frames[:SEGMENTS])[None, None])[0]
    said = scores_of(found[SEGMENTS - 1])
    ordered = [said[name] for name in stream.rule.classes]
    np.testing.assert_allclose(ordered, first, rtol=0, atol=1e-6)
    np.testing.assert_allclose(ordered, clip, rtol=0, atol=1e-5)
    assert stream.counts.used == len(found) == 24
    assert stream.counts.seen == 120
    assert stream.counts.dropped == 0


def test_segments_of_several_frames(tmp_path: Path, film: Path) -> None:
    """A network on differences takes the frames before each tick; its steps are its windows."""
    path = write_checkpoint(tmp_path / "m.safetensors", "tsn_resnet18", modality="rgbdiff")
    steps, windows = (
        without_end(answers(watch(path, str(film), mode=mode, device="cpu")))
        for mode in ("causal", "window")
    )
    assert len(steps) == len(windows) == 24
    for one, other in zip(steps[SEGMENTS:], windows[SEGMENTS:], strict=True):
        expected = scores_of(other)
        assert scores_of(one) == pytest.approx(expected, abs=1e-5)


def test_a_causal_network_also_takes_windows(causal: Path, film: Path) -> None:
    found = answers(watch(causal, str(film), mode="window", device="cpu"), SEGMENTS)
    frames = np.stack(decode_all(film))[::5][:SEGMENTS]
    assert found[-1].labels == Recognizer.load(causal, "cpu").predict(frames).labels


def test_events_of_a_file(causal: Path, film: Path) -> None:
    stream = watch(causal, str(film), limits=Limits(0.0, 0.0), device="cpu")
    events = [event for answer in answers(stream) for event in answer.events]
    assert {event.type for event in events} >= {"start", "end"}
    for name in {event.id for event in events}:
        types = [event.type for event in events if event.id == name]
        assert types[0] == "start"
        assert types[-1] == "end"


def camera(frames: np.ndarray, fps: float = 20.0) -> Callable[[Mjpeg], Iterator[Any]]:
    """Endless frames, again and again."""

    def script(server: Mjpeg) -> Iterator[Any]:
        while True:
            for frame in frames:
                yield frame
                yield 1 / fps

    return script


def test_a_camera_that_closes_and_falls_silent_is_opened_again(causal: Path) -> None:
    frames = moving_frames(8, 48, 32)

    def script(server: Mjpeg) -> Iterator[Any]:
        yield from [item for frame in frames for item in (frame, 0.04)]
        if server.connections == 2:
            yield 30.0  # silence
        if server.connections > 2:
            yield from camera(moving_frames(8, 96, 64))(server)  # another size

    lines: list[str] = []
    with Mjpeg(script) as server:
        stream = watch(causal, server.address, silence=0.5, tell=lines.append, device="cpu")
        stream.capture._waits = (0.05,)
        began, reasons, last = time.monotonic(), [], 0.0
        for answer in stream:
            reasons += [answer.restart] if answer.restart else []
            assert answer.seconds >= last  # time never runs back
            last = answer.seconds
            if stream.counts.reopened >= 2 and answer.labels:
                break
            assert time.monotonic() - began < 30
        stream.close()
    assert reasons == ["the source was lost"] * 2
    assert sum("lost" in line for line in lines) == 2  # told once each
    assert sum("open again" in line for line in lines) == 2
    assert server.connections >= 3


def test_rtsp(causal: Path) -> None:
    with rtsp_camera(moving_frames(40, 64, 48)) as address:
        stream = watch(causal, address, silence=5.0, device="cpu")
        found = answers(stream, 2 * SEGMENTS)
    assert found[-1].labels
    assert found[-1].seconds - found[0].seconds == pytest.approx((len(found) - 1) / RATE, abs=0.3)


@pytest.mark.parametrize("mode", ["window", "causal"])
def test_under_load_the_newest_frame_wins(causal: Path, mode: str) -> None:
    with Mjpeg(camera(moving_frames(8, 48, 32), 40)) as server:
        stream = watch(causal, server.address, mode=mode, rate=20.0, device="cpu")
        stream.capture._capacity = SEGMENTS
        scorer: Any = stream.scorer
        slow = "add" if mode == "causal" else "scores"
        quick = getattr(scorer, slow)

        def slowly(*words: Any) -> Any:
            time.sleep(0.15)
            return quick(*words)

        setattr(scorer, slow, slowly)
        moments, delays = [time.monotonic()], []
        for answer in stream:
            moments.append(time.monotonic())
            delays.append(answer.delay)
            if moments[-1] - moments[0] > 3:
                break
        stream.close()
    assert stream.counts.dropped > 0 or mode == "window"
    slowest = max(np.diff(moments))
    assert max(delays) < (2 * SEGMENTS + 1) * slowest  # what waits and what is at work
    assert "dropped" in str(stream)
    if mode == "causal":  # dropped frames never change the speed of motion
        assert stream.counts.restarts > 0
    else:
        assert stream.counts.restarts == 0


def test_a_causal_network_that_is_far_too_slow_answers_too(causal: Path) -> None:
    with Mjpeg(camera(moving_frames(8, 48, 32), 40)) as server:
        lines: list[str] = []
        stream = watch(causal, server.address, rate=20.0, device="cpu", tell=lines.append)
        stream.capture._capacity = 2
        scorer: Any = stream.scorer
        quick = scorer.add

        def slowly(sample: Any) -> None:
            time.sleep(0.2)
            quick(sample)

        scorer.add = slowly
        named = [
            answer for answer, _ in zip(stream, range(3 * SEGMENTS), strict=False) if answer.labels
        ]
        stream.close()
    assert named
    assert stream.counts.dropped > 0
    assert sum("frames are dropped" in line for line in lines) == 1


def test_windows_are_those_of_a_timeline(two_sided: Path, film: Path) -> None:
    """A file as a stream, and the timeline of the same file: the same windows, the same scores."""
    backend = open_backend(two_sided, "cpu")
    plan = plan_views(backend, 1, 1)
    window = (SEGMENTS - 1) / RATE + 1 / 25  # from the first frame to the end of the last one
    curves = score_recording(backend, plan, str(film), window, 1 / RATE)
    found = [a for a in without_end(answers(watch(two_sided, str(film), device="cpu"))) if a.labels]
    ordered = np.array([[scores_of(a)[name] for name in curves.classes] for a in found])
    assert len(found) == 21  # the timeline has one more, which ends with the recording
    np.testing.assert_allclose(ordered, curves.scores[:21], rtol=0, atol=1e-6)


def test_time_stamps_that_jump_restart_the_state(causal: Path, tmp_path: Path) -> None:
    stamps = [40 * k for k in range(40)] + [60_000 + 40 * k for k in range(40)]
    film = write_video(tmp_path / "jump.mkv", moving_frames(80, 48, 32), timestamps=stamps)
    stream = watch(causal, str(film), device="cpu")
    found = answers(stream)
    assert stream.counts.restarts == 1
    assert [a.restart for a in found if a.restart] == ["the time stamps jumped"]
    assert found[-1].seconds < 5


def test_a_file_at_its_own_pace(causal: Path, tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mp4", moving_frames(25, 48, 32))
    began = time.monotonic()
    answers(watch(causal, str(film), realtime=True, device="cpu"))
    assert time.monotonic() - began > 0.9


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("nowhere.mp4", "no such file"),
        ("ftp://host/film.mp4", "is not read; use a camera"),
        ("http://127.0.0.1:9/video", "cannot be opened"),
        ("concat:a|b", "no such file"),
    ],
)
def test_sources_that_cannot_be_opened(causal: Path, word: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        watch(causal, word, device="cpu")


def test_a_playlist_cannot_lead_to_a_local_file(tmp_path: Path, film: Path) -> None:
    """Neither as a file nor from an address."""
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXTINF:4,\nfile://{film}\n#EXT-X-ENDLIST\n")
    with pytest.raises(UserError, match="not a video but a playlist"):
        source_of(str(playlist)).open(2.0)
    source = source_of("http://host/x.m3u8")
    assert "file" not in source.protocols.split(",")
    assert source_of("rtsp://user:secret@host/1").name == "rtsp://host/1"


def test_the_command_prints_events_and_a_summary(
    smnet: Callable[..., Called], causal: Path, film: Path, tmp_path: Path
) -> None:
    words = ["live", causal, film, "--json", "--scores", "--high", 0, "--low", 0]
    called = smnet(*words, "--shortest", 0, "--record", tmp_path / "clips", "--device", "cpu")
    assert called.status == 0, called.err
    lines = [json.loads(line) for line in called.out.splitlines()]
    kinds = {line["type"] for line in lines}
    assert kinds >= {"scores", "start", "end", "summary"}
    assert lines[-1]["used"] == 24
    assert "120 frames seen, 24 used, 0 dropped" in called.err
    ids = {line["id"] for line in lines if line["type"] == "end"}
    assert len(ids) == len(list((tmp_path / "clips").glob("*.mp4"))) > 0
    for path in (tmp_path / "clips").glob("*.mp4"):
        assert len(decode_all(path)) > 5


def test_mistakes_on_the_command_line(
    smnet: Callable[..., Called], causal: Path, film: Path
) -> None:
    for words, message in (
        (["--high", 0.2, "--low", 0.4], "above --high"),
        (["--scores"], "add --json"),
        (["--mode", "both"], "use auto, window, causal"),
        (["--rate", 1000], "0.1 to 240"),
    ):
        called = smnet("live", causal, film, "--device", "cpu", *words)
        assert called.status == 1
        assert message in called.err
