"""Static servers, small sites, and Chromium."""

from __future__ import annotations

import base64
import json
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from smnet.checkpoints.header import read_header
from smnet.export.export import Exported
from smnet.export.parity import Parity
from smnet.inference.exported import INPUT, OUTPUT, onnx_metadata
from smnet.inference.streams import FRAME, LOGITS, NEXT
from smnet.measure import Ratio
from smnet.models.spec import ModelSpec
from smnet.system import cache_folder
from smnet.web import runtime, site
from tests.live.conftest import causal, two_sided  # noqa: F401, fixtures

ENGINE = cache_folder("web") / f"{runtime.FOLDER}.tgz"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class _Quiet(SimpleHTTPRequestHandler):
    # A machine may know other types for these names.
    extensions_map = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}  # noqa: RUF012

    def log_message(self, *words: Any) -> None:
        pass


@contextmanager
def static(folder: Path) -> Iterator[str]:
    """A server of files without any headers of its own; its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser with a drawn camera. Until it is closed, this thread has a running event loop, in
    which ``asyncio.run`` of other tests would fail."""
    library = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    switches = ["--no-sandbox", "--use-fake-device-for-media-stream"]
    switches.append("--use-fake-ui-for-media-stream")
    with library.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=CHROMIUM, args=switches)
        yield made
        made.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as made:
        yield made


@contextmanager
def opened(browser: Any, address: str, failures: Sequence[str] = ()) -> Iterator[Any]:
    """A page on the screen of a phone. Errors on it fail the test."""
    page = browser.new_page(viewport={"width": 400, "height": 800})
    page.set_default_timeout(240_000)
    seen: list[str] = []
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.on("console", lambda line: line.type == "error" and seen.append(line.text))
    page.goto(address)
    yield page
    page.close()
    assert seen == list(failures)


@pytest.fixture(scope="session")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page's modules."""
    folder = tmp_path_factory.mktemp("scripts")
    with as_file(files("smnet.web") / "page") as page:
        shutil.copytree(page, folder, dirs_exist_ok=True)
    (folder / "empty.html").write_text("<!doctype html><link rel=icon href=data:,>")
    with static(folder) as address:
        yield address


def network(path: Path, spec: ModelSpec, stream: bool) -> Path:
    """A small network by hand, whose scores depend on the order of the frames."""
    onnx = pytest.importorskip("onnx", reason="the export extra is not installed")
    helper, kind = onnx.helper, onnx.TensorProto
    rng = np.random.default_rng(0)
    side = spec.input_size
    if stream:
        frames, shape = FRAME, [1, 3, side, side]
        weights = rng.normal(0, 0.05, (3, spec.num_classes))
        steps = [
            helper.make_node("Mul", ["memory", "half"], ["faded"]),
            helper.make_node("Add", ["faded", "colour"], [f"memory{NEXT}"]),
            helper.make_node("MatMul", [f"memory{NEXT}", "weights"], [LOGITS]),
        ]
        outputs = [(LOGITS, [1, spec.num_classes]), (f"memory{NEXT}", [1, 3])]
    else:
        frames, shape = INPUT, ["batch", spec.num_segments, 3, side, side]
        weights = rng.normal(0, 0.05, (3 * spec.num_segments, spec.num_classes))
        steps = [
            helper.make_node("Flatten", ["colour"], ["colours"]),
            helper.make_node("MatMul", ["colours", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], [OUTPUT]),
        ]
        outputs = [(OUTPUT, ["batch", spec.num_classes])]
    constants = {"axes": np.array([-2, -1]), "weights": weights.astype(np.float32)}
    if stream:
        constants["half"] = np.array(0.5, np.float32)
    given = [(frames, kind.UINT8, shape)]
    given += [("memory", kind.FLOAT, [1, 3])] if stream else []
    graph = helper.make_graph(
        [
            helper.make_node("Cast", [frames], ["float"], to=kind.FLOAT),
            helper.make_node("ReduceMean", ["float", "axes"], ["colour"], keepdims=0),
            *steps,
        ],
        "colours",
        [helper.make_tensor_value_info(*one) for one in given],
        [helper.make_tensor_value_info(name, kind.FLOAT, dims) for name, dims in outputs],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    made.ir_version = 9
    more = {"state": json.dumps({"memory": [1, 3]})} if stream else {}
    helper.set_model_props(made, onnx_metadata(spec, **more))
    onnx.save(made, str(path))
    return path


def by_hand(checkpoint: Any, made: Path, **options: Any) -> Exported:
    """In the place of ``smnet.export.export.export``, which takes long."""
    network(made, read_header(checkpoint).spec, options["stream"])
    parity = Parity(8, "clips", 0.0, 0.0, 1.0, None, None, 0.0, 1.0, 1.0, Ratio(1.0, 1.0, 1.0), 1)
    return Exported(made, made, made.stat().st_size, parity, None)


@pytest.fixture(scope="session")
def sites(
    causal: Path,  # noqa: F811
    two_sided: Path,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """A site that goes frame by frame, and one that scores windows; without their engine where it
    is not in the cache."""
    folder = tmp_path_factory.mktemp("sites")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site, "export", by_hand)
        if not ENGINE.is_file():
            patch.setattr(site, "runtime_files", lambda: {"LICENSE": b""})
        site.write_site(causal, folder / "causal")
        site.write_site(two_sided, folder / "windows")
    return {"causal": folder / "causal", "windows": folder / "windows"}


def text_of(pixels: NDArray[np.uint8]) -> str:
    """Pixels for a script: base64."""
    return base64.b64encode(np.ascontiguousarray(pixels).tobytes()).decode("ascii")


def pixels_of(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(base64.b64decode(text), np.uint8)
