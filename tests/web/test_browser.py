"""A site in Chromium, from a server of plain files: the scores are those of Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smnet.inference.backends import open_backend
from smnet.inference.recognizer import Recognizer
from smnet.inference.streams import open_stream, score_clip
from smnet.web.site import write_site
from tests.videos import moving_frames, write_video
from tests.web.conftest import ENGINE, opened, static, text_of

pytestmark = pytest.mark.slow

_NETWORK = (
    "const {Network, describe} = await import('./network.js');"
    " const network = await Network.open(await describe());"
    " const bytes = t => Uint8Array.from(atob(t), c => c.charCodeAt(0));"
)


def needs_engine() -> None:
    if not ENGINE.is_file():
        pytest.skip("onnxruntime-web is not in the cache; smnet export --to web fetches it")


@pytest.fixture(params=["causal", "windows"])
def site(request: pytest.FixtureRequest, sites: dict[str, Path]) -> Iterator[tuple[Path, str]]:
    needs_engine()
    with static(sites[request.param]) as address:
        yield sites[request.param], address


def test_scores_of_given_frames(site: tuple[Path, str], browser: Any) -> None:
    folder, address = site
    network = folder / "model.onnx"
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (3, 4, 3, 32, 32), dtype=np.uint8)
    with opened(browser, address) as page:
        found = page.evaluate(
            f"async clips => {{ {_NETWORK} const found = [];"
            " for (const clip of clips) found.push(await network.score(bytes(clip)));"
            " return found }",
            [text_of(clip) for clip in clips],
        )
    if folder.name == "causal":
        stream = open_stream(network, "cpu")
        expected = np.stack([score_clip(stream, clip) for clip in clips])
    else:
        expected = open_backend(network, "cpu").score(clips[:, None])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_steps_of_two_streams(sites: dict[str, Path], browser: Any) -> None:
    """Each has its own state; scores are the mean of the last T logits, and begin anew."""
    needs_engine()
    frames = np.random.default_rng(1).integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
    with static(sites["causal"]) as address, opened(browser, address) as page:
        found = page.evaluate(
            f"async frames => {{ {_NETWORK} const found = [];"
            " for (const frame of frames) {"
            "   found.push(await network.step(0, bytes(frame)));"
            "   await network.step(1, bytes(frames[0]));"
            " } found.push(await network.step(0, bytes(frames[0]), 4, true)); return found }",
            [text_of(frame) for frame in frames],
        )
    stream = open_stream(sites["causal"] / "model.onnx", "cpu")
    assert found[:3] == [None] * 3
    expected = score_clip(stream, frames[:4])
    np.testing.assert_allclose(found[3], expected, rtol=0, atol=1e-4)
    assert np.abs(np.subtract(found[4], found[3])).max() > 1e-6
    expected = score_clip(stream, frames[[0, 0, 0, 0]])
    np.testing.assert_allclose(found[-1], expected, rtol=0, atol=1e-4)


def test_the_page(site: tuple[Path, str], browser: Any, tmp_path: Path) -> None:
    """A dropped clip and the camera, on a phone, by keyboard."""
    folder, address = site
    clip = write_video(tmp_path / "clip.mp4", moving_frames(20, 64, 48), bframes=2)
    if folder.name == "windows":
        prediction = Recognizer.load(folder / "model.onnx", "cpu").predict(clip)
        expected = [f"{100 * score:.0f} %" for score in prediction.scores]
    with opened(browser, address) as page:
        page.locator("#controls").wait_for()
        page.set_input_files("#files", str(clip))
        page.locator("#results .bars em").nth(2).wait_for()
        if folder.name == "windows":
            labels = page.locator("#results .bars span").all_inner_texts()
            assert labels == list(prediction.labels)
            assert page.locator("#results .bars em").all_inner_texts() == expected
        assert "20 frames" in page.locator("#results p").first.inner_text()
        page.locator("#camera").focus()
        page.keyboard.press("Enter")
        page.locator("#now span").first.wait_for()
        mode = "frame by frame" if folder.name == "causal" else "windows"
        assert page.inner_text("#rate").startswith(f"{mode}, 5.0 frames per second")
        page.keyboard.press("Enter")
        page.locator("#live").wait_for(state="hidden")
        page.set_input_files("#files", __file__)
        page.locator("#results .bad").wait_for()
        assert "convert it to MP4" in page.inner_text("#results .bad")
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 400


@pytest.mark.timeout(1200)
def test_scores_of_the_network_that_ships(browser: Any, tmp_path: Path) -> None:
    """A real network and a real file: the same frames, the same scores."""
    needs_engine()
    clip = write_video(tmp_path / "clip.webm", moving_frames(30, 120, 80), codec="libvpx")
    made = write_site("motion", tmp_path / "site")
    expected = Recognizer.load(made.folder / "model.onnx", "cpu").predict(clip, top=12)
    with static(made.folder) as address, opened(browser, address) as page:
        page.evaluate("() => { document.querySelector('#files').onchange = null }")
        page.set_input_files("#files", str(clip))
        found = page.evaluate(
            f"async () => {{ {_NETWORK} const {{readClip}} = await import('./video.js');"
            " const [file] = document.querySelector('#files').files;"
            " const scores = await network.score((await readClip(file, network.about)).views);"
            " return Object.fromEntries(network.about.classes.map((c, k) => [c, scores[k]])) }"
        )
    for label, score in zip(expected.labels, expected.scores, strict=True):
        assert found[label] == pytest.approx(score, abs=1e-4)
