"""The arithmetic of the page is that of Python: which frames, which pixels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from smnet.data.loading.views import ViewPlan, read_views
from smnet.data.sampling.rate import sample_at_rate
from smnet.data.sampling.rules import STRATEGIES, sample
from smnet.live.clock import Ticks
from smnet.web.site import RULES
from tests.videos import moving_frames, write_video
from tests.web.conftest import opened, pixels_of, text_of

pytestmark = pytest.mark.slow  # a browser

_BYTES = "text => Uint8Array.from(atob(text), c => c.charCodeAt(0))"
_TEXT = (
    "bytes => { let s = ''; for (const b of bytes) s += String.fromCharCode(b); return btoa(s) }"
)


@pytest.fixture(scope="module")
def page(browser: Any, scripts: str) -> Iterator[Any]:
    with opened(browser, f"{scripts}empty.html") as made:
        made.add_script_tag(content=f"const bytesOf = {_BYTES}; const textOf = {_TEXT};")
        yield made


def test_every_rule_without_chance_is_on_the_page() -> None:
    tests = {name: rule.test_clips for name, rule in STRATEGIES.items()}
    once = {name for name, clips in tests.items() if clips is None or 1 in clips}
    assert set(RULES) == once - {"tsn-random"}


def test_frames_by_rule(page: Any) -> None:
    cases = [
        (rule, n, segments, length)
        for rule in RULES
        for segments in (1, 3, 8, 16)
        for length in ((1,) if rule == "mmaction2" else (1, 5))
        for n in (*range(1, 40), 64, 65, 100, 299, 1000)
    ]
    found = page.evaluate(
        "async cases => { const {byRule} = await import('./sampling.js');"
        " return cases.map(c => byRule(...c)) }",
        cases,
    )
    for case, got in zip(cases, found, strict=True):
        rule, n, segments, length = case
        expected = sample(n, segments, mode="test", strategy=rule, frames_per_segment=length)[0]
        assert got == expected.tolist(), case


def test_frames_at_a_rate(page: Any) -> None:
    rng = np.random.default_rng(0)
    cases = []
    for n in (1, 2, 5, 30, 100):
        for _ in range(10):
            times = np.cumsum(rng.choice([0.02, 0.033, 0.04, 0.1], n)).round(3)
            cases += [(times.tolist(), *rest) for rest in ((8, 5.0, 1), (8, 12.5, 1), (4, 3.0, 5))]
    found = page.evaluate(
        "async cases => { const {atRate} = await import('./sampling.js');"
        " return cases.map(c => atRate(...c)) }",
        cases,
    )
    for (times, segments, rate, length), got in zip(cases, found, strict=True):
        expected = sample_at_rate(np.array(times), segments, rate, 1, length)[0]
        assert got == expected.tolist()


def test_ticks_of_a_stream(page: Any) -> None:
    rng = np.random.default_rng(1)
    gaps = {0.0: 0.02, 0.033: 0.4, 0.04: 0.4, 0.2: 0.1, 0.7: 0.05, 2.5: 0.02, -1.0: 0.01}
    steps = rng.choice(list(gaps), 400, p=list(gaps.values()))
    times = (5 + np.cumsum(steps)).tolist()
    found = page.evaluate(
        "async ([times, rate]) => { const {Ticks} = await import('./sampling.js');"
        " const ticks = new Ticks(rate); return times.map(t => ticks.serve(t)) }",
        [times, 4.0],
    )
    ticks = Ticks(4.0)
    assert found == [ticks.serve(time) for time in times]


@pytest.mark.parametrize(
    ("width", "height"), [(320, 240), (64, 48), (49, 47), (240, 426), (256, 256), (640, 360)]
)
@pytest.mark.parametrize(("size", "short"), [(224, 256), (64, 64), (32, 40)])
def test_crops(page: Any, width: int, height: int, size: int, short: int) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    plan = ViewPlan(segments=1, size=size, short_side=short, scaler="pillow")
    for channels in (3, 4):
        given = np.full((height, width, channels), 255, np.uint8)
        given[..., :3] = frame
        got = page.evaluate(
            "async ([text, width, height, channels, size, short]) => {"
            " const {cropOf} = await import('./pixels.js');"
            " return textOf(cropOf({data: bytesOf(text), width, height, channels}, size, short)) }",
            [text_of(given), width, height, channels, size, short],
        )
        expected = read_views(frame[None], plan)[0, 0]
        assert np.array_equal(pixels_of(got).reshape(expected.shape), expected)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("matrix", "number"), [("smpte170m", 5), ("bt709", 1)])
def test_colours(page: Any, matrix: str, number: int, full: bool) -> None:
    width, height = 66, 48
    frame = av.VideoFrame(width, height, "yuvj420p" if full else "yuv420p")
    frame.colorspace, frame.color_range = number, 2 if full else 1
    rng = np.random.default_rng(0)
    for plane in frame.planes:
        plane.update(rng.integers(0, 256, plane.buffer_size, dtype=np.uint8).tobytes())
    expected = VideoReformatter().reformat(
        frame, width=width, height=height, format="rgb24", interpolation="BILINEAR", threads=1
    )
    got = page.evaluate(
        "async ([planes, width, height, matrix, full]) => {"
        " const {rgbOf} = await import('./pixels.js');"
        " const given = planes.map(([text, stride]) => ("
        "   {data: bytesOf(text), offset: 0, stride, step: 1}));"
        " return textOf(rgbOf(given, width, height, matrix, full)) }",
        [
            [[text_of(np.frombuffer(p, np.uint8)), p.line_size] for p in frame.planes],
            *(width, height, matrix, full),
        ],
    )
    assert np.array_equal(pixels_of(got).reshape(height, width, 3), expected.to_ndarray())


BT709 = "colormatrix=bt709:colorprim=bt709:transfer=bt709"
UNEVEN = [0, 40, 80, 200, 240, 500, 540, 580, 900, 940, 1000, 1500]
READ = (
    "async ([input, name]) => { const {readClip} = await import('./video.js');"
    " const file = document.querySelector('#given').files[0];"
    " const clip = await readClip(file, input); return {...clip, views: textOf(clip.views)} }"
)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain.mp4", {}),
        ("declared.mp4", {"options": {"x264-params": BT709}}),
        ("b-frames.mp4", {"bframes": 3, "gop": 8}),
        (
            "variable.mp4",
            {"timestamps": [0, 40, 80, 200, 240, 500, 540, 580, 900, 940, 1000, 1500]},
        ),
        ("turned.mp4", {"rotation": 90}),
        ("last-index.mov", {"bframes": 2}),
        ("b-frames.mkv", {"bframes": 3}),
        ("vp8.webm", {"codec": "libvpx"}),
        ("vp9.webm", {"codec": "libvpx-vp9", "options": {"deadline": "realtime"}}),
        ("av1.mp4", {"codec": "libsvtav1", "options": {"preset": "12"}}),
    ],
)
@pytest.mark.parametrize("rate", [None, 6.0])
def test_clips_of_files(
    page: Any, tmp_path: Path, name: str, options: dict[str, Any], rate: float | None
) -> None:
    try:
        path = write_video(tmp_path / name, moving_frames(12, 96, 64), **options)
    except (av.error.FFmpegError, ValueError) as error:
        pytest.skip(f"no such encoder here ({error})")
    plan = ViewPlan(segments=4, size=48, short_side=56, rate=rate, scaler="pillow")
    expected = read_views(str(path), plan)[0]
    page.evaluate("() => { document.body.innerHTML = '<input id=given type=file>' }")
    page.set_input_files("#given", str(path))
    given = {"segments": 4, "length": 1, "rate": rate, "sampling": "uniform"}
    clip = page.evaluate(READ, [{**given, "size": 48, "shortSide": 56}, name])
    assert clip["exact"], "the container was not understood, or its codec"
    assert clip["frames"] == 12
    got = pixels_of(clip["views"]).reshape(expected.shape).astype(int)
    assert np.abs(got - expected).max() == 0
