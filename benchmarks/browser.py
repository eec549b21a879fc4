"""Networks in a browser: clips per second, and how near its frames are to those of Python.

    python benchmarks/browser.py                 # clips per second
    python benchmarks/browser.py clips/          # frames and scores of files

Each network gets its folder by `smnet export --to web`. Chromium runs it on one thread, and on two
where the server sends the headers for that. Native is ONNX Runtime on the same file with as many
threads, in turns with the browser. Every score is compared with it. Needs playwright and Chromium.
"""

from __future__ import annotations

import base64
import json
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import sync_playwright

from common import parse, parser, publish, table
from smnet.checkpoints.file import Checkpoint, save_checkpoint
from smnet.errors import UserError
from smnet.inference.onnx_backend import OnnxBackend
from smnet.inference.recognizer import Recognizer
from smnet.inference.streams import OnnxStream
from smnet.models import create_model
from smnet.web.site import write_site

NETWORKS: Sequence[tuple[str, str, dict[str, Any], int]] = (
    ("motion (nano)", "motion", {}, 64),
    ("MobileNetV2", "smnet_mobilenetv2", {}, 224),
    ("MobileNetV2, causal", "smnet_mobilenetv2", {"causal": True}, 224),
    ("ResNet-50", "smnet_resnet50", {}, 224),
)
SEGMENTS, CLASSES = 8, 174
READ = """async input => {
  const {readClip} = await import("./video.js");
  const [file] = document.querySelector("#files").files;
  const began = performance.now(), clip = await readClip(file, input);
  let text = "";
  for (const byte of clip.views) text += String.fromCharCode(byte);
  return {...clip, views: btoa(text), ms: performance.now() - began};
}"""
OPEN = """async () => {
  const {Network, describe} = await import("./network.js");
  window.network = await Network.open(await describe());
  window.bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
  return network.threads;
}"""
SCORE = """async text => {
  const views = bytes(text), began = performance.now();
  return [await network.score(views), performance.now() - began];
}"""
STEP = """async text => {
  const frame = bytes(text), began = performance.now();
  await network.step(0, frame);
  return performance.now() - began;
}"""


class _Handler(SimpleHTTPRequestHandler):
    isolated = False

    def end_headers(self) -> None:
        if self.isolated:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *words: Any) -> None:
        pass


class _Isolated(_Handler):
    isolated = True


@contextmanager
def static(folder: Path, handler: type[_Handler] = _Handler) -> Iterator[str]:
    """The address of a server of files."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@contextmanager
def chromium() -> Iterator[tuple[Any, str]]:
    """A browser, and its version."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser, browser.version
        browser.close()


def checkpoint(path: Path, name: str, options: dict[str, Any], size: int) -> Path:
    model = create_model(name, CLASSES, SEGMENTS, **options)
    short = {64: 64, 224: 256}[size]
    model.spec = replace(model.spec, input_size=size, short_side=short, rate=8.0)
    save_checkpoint(path, Checkpoint(model.spec, model.state_dict()))
    return path


def text_of(pixels: NDArray[np.uint8]) -> str:
    return base64.b64encode(pixels.tobytes()).decode("ascii")


def speed_row(
    browser: Any, folder: Path, name: str, handler: type[_Handler], rounds: int
) -> list[str]:
    """A row of the table: times of a clip or of a frame."""
    rng = np.random.default_rng(0)
    with static(folder, handler) as address:
        page = browser.new_page()
        page.set_default_timeout(600_000)
        page.goto(address)
        page.locator("#controls").wait_for()
        threads = page.evaluate(OPEN)
        network = folder / "model.onnx"
        stream = json.loads((folder / "model.json").read_text())["state"] is not None
        native: Any = (OnnxStream if stream else OnnxBackend)(network, "cpu", threads)
        size, count = native.spec.input_size, native.spec.frames_per_clip
        times: list[tuple[float, float]] = []
        worst = 0.0
        for number in range(rounds + 1):
            coarse = rng.integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)
            clip = coarse.repeat(size // 8, 2).repeat(size // 8, 3)
            began = time.perf_counter()
            if stream:
                native.step(clip[0])
                own = 1000 * (time.perf_counter() - began)
                there = page.evaluate(STEP, text_of(clip[0]))
            else:
                expected = native.score(clip[None, None])[0]
                own = 1000 * (time.perf_counter() - began)
                scores, there = page.evaluate(SCORE, text_of(clip))
                worst = max(worst, float(np.abs(expected - scores).max()))
            if number:  # the first run is longer
                times.append((there, own))
        page.close()
    mine, other = (median(column) for column in zip(*times, strict=True))
    return [
        f"{name}, {'frame' if stream else 'clip'}",
        f"{network.stat().st_size / 1e6:.1f}",
        str(threads),
        f"{mine:.0f}",
        f"{1000 / mine:.2f}",
        f"{other:.0f}",
        f"{median(a / b for a, b in times):.2f}",
        "" if stream else f"{worst:.0e}",
    ]


def sites(given: Any, folder: str) -> Iterator[tuple[str, Path]]:
    """The folders to measure, by name."""
    if given.site is not None:
        yield given.site.name, given.site
        return
    for name, model, options, size in NETWORKS:
        if given.only and given.only not in name:
            continue
        made: Path | str = model
        if model != "motion":
            made = checkpoint(Path(folder, "best.safetensors"), model, options, size)
        write_site(made, site := Path(folder, name))
        yield name, site


def speed(given: Any) -> None:
    rows = []
    with TemporaryDirectory() as folder, chromium() as (browser, version):
        for name, site in sites(given, folder):
            for handler in (_Handler,) if given.one_thread else (_Handler, _Isolated):
                rows.append(speed_row(browser, site, name, handler, given.rounds))
                print(*rows[-1], sep=", ", flush=True)
    which = given.only or (given.site.name if given.site else "")
    publish(
        given,
        "browser",
        f"Networks in Chromium{f': {which}' if which else ''}",
        f"Chromium {version}, SMNet, {SEGMENTS} segments, {CLASSES} classes, random weights"
        f" (motion: as it ships), medians of {given.rounds} runs. One clip, or one"
        " frame of a causal network.",
        table(
            ["network", "MB", "threads", "ms", "per second", "native ms", "ratio", "differs by"],
            rows,
        ),
    )


def frames(given: Any) -> None:
    """How far the views and scores of files are from those of Python."""
    rows = []
    with TemporaryDirectory() as folder, chromium() as (browser, version):
        site = Path(folder, "site")
        write_site("motion", site)
        recognizer = Recognizer.load(site / "model.onnx", "cpu")
        with static(site) as address:
            page = browser.new_page()
            page.set_default_timeout(600_000)
            page.goto(address)
            page.locator("#controls").wait_for()
            page.evaluate(OPEN)
            page.evaluate("() => { document.querySelector('#files').onchange = null }")
            paths = sorted(path for path in given.clips.iterdir() if path.suffix != ".txt")
            rows += [[path.name, *frames_row(page, recognizer, path)] for path in paths]
    publish(
        given,
        "browser",
        "Frames of files",
        f"Chromium {version}, the network motion. Grey levels are of the network's input; scores"
        " are compared with those of `smnet predict` for the exported network.",
        table(["file", "frames are taken", "grey levels: mean, most", "scores differ by"], rows),
    )


def frames_row(page: Any, recognizer: Recognizer, path: Path) -> list[str]:
    try:
        views = recognizer.backend.read(str(path), recognizer.plan)
    except UserError:
        return ["Python cannot read it", "", ""]
    page.set_input_files("#files", str(path))
    try:
        clip = page.evaluate(READ, page.evaluate("() => network.about"))
    except Exception as error:
        return [f"not at all: {str(error).partition('Error: ')[2].splitlines()[0][:60]}", "", ""]
    got = np.frombuffer(base64.b64decode(clip["views"]), np.uint8).reshape(views.shape)
    gaps = np.abs(got.astype(int) - views)
    scores, _ = page.evaluate(SCORE, clip["views"])
    expected = recognizer.backend.score(views[None])[0]
    return [
        "by number" if clip["exact"] else "by seeking",
        f"{gaps.mean():.2f}, {gaps.max()}",
        f"{np.abs(expected - scores).max():.0e}",
    ]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("clips", nargs="?", type=Path, help="a folder of videos")
    made.add_argument("--only", help="a network of the table")
    made.add_argument("--site", type=Path, help="a folder of smnet export --to web, instead")
    made.add_argument("--rounds", type=int, default=5, help="runs of each network")
    made.add_argument("--one-thread", action="store_true", help="leave out two threads")
    given = parse(made)
    if given.clips is None:
        speed(given)
    else:
        frames(given)


if __name__ == "__main__":
    main()
