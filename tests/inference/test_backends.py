"""The backends: opening them, wrong and damaged files, machines without PyTorch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smnet.checkpoints.file import load
from smnet.checkpoints.metadata import dump_specification, read_specification, view_plan
from smnet.data.loading import dataset
from smnet.data.loading.views import ViewPlan, protocol_crops, read_views
from smnet.errors import UserError
from smnet.export.writers import write_openvino
from smnet.inference import onnx_backend as onnx_module
from smnet.inference import openvino_backend as openvino_module
from smnet.inference.backends import BACKENDS, open_backend
from smnet.inference.exported import INPUT, ONNX_FORMAT, OUTPUT, onnx_metadata
from smnet.inference.onnx_backend import OnnxBackend
from smnet.inference.openvino_backend import OpenVinoBackend
from smnet.inference.recognizer import Recognizer
from smnet.inference.torch_backend import TorchBackend
from smnet.models import ModelSpec
from smnet.system import available_cores
from tests.conftest import CLASSES, Called
from tests.videos import moving_frames, write_video

SPEC = ModelSpec(
    "tsn_resnet18", 3, 2, input_size=32, short_side=40, class_names=CLASSES, sampling="dense"
)


def write_onnx(
    path: Path,
    metadata: dict[str, str],
    frames: tuple[int, ...] = (2, 3, 32, 32),
    classes: int = 3,
    dtype: str = "UINT8",
) -> Path:
    """A network whose scores are a class's share of the clip's mean brightness: brighter clips
    are more of the last class."""
    onnx = pytest.importorskip("onnx", reason="the export extra is not installed")
    from onnx import TensorProto, helper, numpy_helper

    weight = np.linspace(-1, 1, classes, dtype=np.float32)[None]
    nodes = [
        helper.make_node("Cast", [INPUT], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f", "axes"], ["m"], keepdims=0),
        helper.make_node("Unsqueeze", ["m", "last"], ["u"]),
        helper.make_node("Div", ["u", "scale"], ["d"]),
        helper.make_node("MatMul", ["d", "w"], ["l"]),
        helper.make_node("Softmax", ["l"], [OUTPUT]),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info(INPUT, getattr(TensorProto, dtype), ["batch", *frames])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", classes])],
        [
            numpy_helper.from_array(np.array([1, 2, 3, 4]), "axes"),
            numpy_helper.from_array(np.array([1]), "last"),
            numpy_helper.from_array(np.array(32.0, np.float32), "scale"),
            numpy_helper.from_array(weight, "w"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


@pytest.fixture
def bright(tmp_path: Path) -> Path:
    return write_onnx(tmp_path / "bright.onnx", onnx_metadata(SPEC))


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = moving_frames(24, 48, 66)
    return write_video(tmp_path_factory.mktemp("movie") / "a.mkv", frames, codec="ffv1")


# --- Views without torch.


@pytest.mark.parametrize("clips", [1, 2])
@pytest.mark.parametrize("crops", [1, 3, 5])
def test_views_without_torch_are_those_with_it(movie: Path, clips: int, crops: int) -> None:
    plan = ViewPlan(segments=3, size=24, short_side=30, clips=clips, crops=crops)
    mine, theirs = read_views(str(movie), plan), dataset.read_views(str(movie), plan).numpy()
    assert mine.shape == theirs.shape == (clips * crops, 3, 3, plan.side, plan.side)
    assert mine.dtype == np.uint8
    assert mine.flags.c_contiguous
    assert np.abs(mine.astype(int) - theirs).max() <= 1
    assert (mine == theirs).mean() > 0.9


def test_unscaled_frames_are_exactly_those(movie: Path) -> None:
    plan = ViewPlan(segments=4, size=40, short_side=48, sampling="dense", frames_per_segment=2)
    assert np.array_equal(read_views(str(movie), plan), dataset.read_views(str(movie), plan))


@given(
    height=st.integers(1, 4000),
    width=st.integers(1, 4000),
    size=st.integers(1, 300),
    more=st.integers(0, 100),
    crops=st.sampled_from([1, 3, 5]),
)
def test_crops_lie_inside_the_scaled_frame(
    height: int, width: int, size: int, more: int, crops: int
) -> None:
    where = protocol_crops(height, width, size, size + more, crops)
    assert min(where.height, where.width) == size + more
    assert (where.height <= where.width) == (height <= width) or where.height == where.width
    assert len(where.places) == crops
    for top, left in where.places:
        assert 0 <= top <= where.height - where.side
        assert 0 <= left <= where.width - where.side


# --- The specification's JSON.


def test_a_specification_is_its_own_round_trip() -> None:
    spec = replace(SPEC, options={"stages": (2, 3)}, class_names=("ä", "b,c", 'd"e'))
    assert read_specification(dump_specification(spec)) == spec


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"num_classes": "3"}, "num_classes"),
        ({"num_segments": 10**6}, "1000000 segments"),
        ({"input_size": 4000}, "input_size 4000"),
        ({"class_names": ["a"]}, "1 class names"),
        ({"colour": 1}, "unknown keys"),
    ],
)
def test_impossible_specifications(change: dict[str, Any], says: str) -> None:
    import json

    text = json.dumps(json.loads(dump_specification(SPEC)) | change)
    with pytest.raises(ValueError, match=says):
        read_specification(text)


# --- PyTorch.


def test_a_prepared_model_scores_as_the_live_one(run: Path, clips: Path) -> None:
    backend = TorchBackend.load(run, "cpu")
    videos = sorted((clips / "val").rglob("*.mp4"))
    views = np.stack([backend.read(str(v), view_plan(backend.spec, 2, 3)) for v in videos])
    live = TorchBackend.live(load(run))
    assert np.allclose(backend.score(views), live.score(views), atol=1e-5)


def test_the_model_that_was_given_stays_as_it_was(run: Path) -> None:
    model = load(run).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    backend = TorchBackend(model, "cpu")
    assert model.training
    assert not backend.model.training
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert "bn1.weight" not in backend.model.state_dict()


def test_compilation_that_fails_is_one_line(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = TorchBackend.load(run, "cpu", compiled=True)

    def fail(*_: object) -> None:
        raise RuntimeError("InvalidCxxCompiler: no working C++ compiler\nlong story")

    monkeypatch.setattr(backend, "_network", fail)
    views = np.zeros((1, 1, 2, 3, 32, 32), np.uint8)
    with pytest.raises(UserError, match=r"backend=compile: .*no working C\+\+ compiler\); use"):
        backend.score(views)
    backend.compiled = False
    with pytest.raises(RuntimeError, match="long story"):
        backend.score(views)


# --- ONNX Runtime.


def test_scores_of_an_exported_file(bright: Path) -> None:
    pytest.importorskip("onnxruntime")
    backend = OnnxBackend(bright, "cpu")
    assert backend.spec == SPEC
    assert backend.side == 32
    rng = np.random.default_rng(0)
    views = rng.integers(0, 256, (3, 5, 2, 3, 32, 32), dtype=np.uint8)  # more than go together
    scores = backend.score(views)
    assert scores.shape == (3, 3)
    logits = views.mean(axis=(2, 3, 4, 5))[..., None] / 32 * np.array([-1, 0, 1])
    each = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert np.allclose(scores, each.mean(1), atol=1e-5)
    with pytest.raises(UserError, match="exported without features; export it with --features"):
        backend.features(views)


def test_a_recogniser_on_an_exported_file(bright: Path, movie: Path) -> None:
    pytest.importorskip("onnxruntime")
    recognizer = Recognizer.load(bright, "cpu", (2, 5))
    answer = recognizer.predict(movie)
    assert answer.labels[0] == CLASSES[2]
    assert recognizer.plan.sampling == "dense"
    with pytest.raises(UserError, match=r"views 1x3 have crops of 40 pixels.* takes 32; use 1x1"):
        Recognizer.load(bright, "cpu", (1, 3))


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({}, "smnet export did not write"),
        ({"format": "other/1"}, "smnet export did not write"),
        ({"format": "smnet-onnx/2"}, "format smnet-onnx/2"),
        ({"format": ONNX_FORMAT}, "its metadata are damaged"),
        ({"format": ONNX_FORMAT, "spec": "{"}, "its metadata are damaged"),
        ({"format": ONNX_FORMAT, "spec": '{"name": "x"}'}, "its metadata are damaged"),
        (onnx_metadata(replace(SPEC, num_segments=3)), "do not match its metadata"),
        (
            onnx_metadata(replace(SPEC, num_classes=4, class_names=None)),
            "do not match its metadata",
        ),
    ],
)
def test_files_of_another_kind(tmp_path: Path, metadata: dict[str, str], says: str) -> None:
    pytest.importorskip("onnxruntime")
    path = write_onnx(tmp_path / "x.onnx", metadata)
    with pytest.raises(UserError, match=rf"x\.onnx: .*{says}"):
        OnnxBackend(path, "cpu")


def test_files_that_are_damaged(bright: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    whole = bright.read_bytes()
    for number, text in enumerate((b"", b"not a network", whole[: len(whole) // 2])):
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(text)
        with pytest.raises(UserError, match=rf"{number}\.onnx: ") as caught:
            OnnxBackend(path, "cpu")
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no such file"):
        OnnxBackend(tmp_path / "gone.onnx")


def test_onnx_files_are_bounded(bright: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_module, "MAX_NETWORK", 100)
    with pytest.raises(UserError, match="over the limit"):
        OnnxBackend(bright)


@pytest.mark.parametrize("address", ["../weights.bin", "/absolute"])
def test_weights_in_another_file_are_not_read(bright: Path, tmp_path: Path, address: str) -> None:
    """A file of a stranger would name any file of this machine."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(bright)
    weights = model.graph.initializer[-1]
    outside = tmp_path / "weights.bin"
    outside.write_bytes(weights.raw_data)
    where = str(outside) if address == "/absolute" else address
    onnx.external_data_helper.set_external_data(weights, where, 0, len(weights.raw_data))
    weights.ClearField("raw_data")
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="cannot run it"):
        OnnxBackend(path, "cpu")


def test_devices(bright: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    for device in ("gpu", "cuda:x", "meta"):
        with pytest.raises(UserError, match=f"device={device}: unknown"):
            OnnxBackend(bright, device)
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        OnnxBackend(bright, "auto")
        with pytest.raises(UserError, match="no CUDA"):
            OnnxBackend(bright, "cuda")


def test_cores() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


# --- Which file goes with which.


def test_which_backend_opens_which_file(run: Path, bright: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    assert isinstance(open_backend(run, "cpu"), TorchBackend)
    compiled = open_backend(run, "cpu", "compile")
    assert isinstance(compiled, TorchBackend)
    assert compiled.compiled
    assert isinstance(open_backend(bright, "cpu"), OnnxBackend)
    (tmp_path / "best.onnx").write_bytes(bright.read_bytes())
    assert isinstance(open_backend(tmp_path, "cpu", "onnxruntime"), OnnxBackend)


@pytest.mark.parametrize(
    ("name", "backend", "says"),
    [
        ("a.onnx", "tensorrt", f"use {', '.join(BACKENDS)}"),
        ("a.onnx", "torch", "or give the checkpoint"),
        ("a.onnx", "compile", "or give the checkpoint"),
        ("a.onnx", None, "no such file"),
        ("a.pt2", None, "torch.export.load"),
        ("a.safetensors", "onnxruntime", "make one with: smnet export"),
        ("a.safetensors", "openvino", r"runs \.xml files"),
        ("a.onnx", "openvino", "use backend=onnxruntime"),
        ("a.xml", "onnxruntime", "use backend=openvino"),
        ("a.xml", "torch", "or give the checkpoint"),
        ("a.safetensors", None, "no such checkpoint"),
    ],
)
def test_files_and_backends_that_do_not_match(
    tmp_path: Path, name: str, backend: str | None, says: str
) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(UserError, match=says):
        open_backend(tmp_path / name, "cpu", backend)


def test_without_onnxruntime_the_message_says_how_to_install_it(
    bright: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install 'smnet-video\[runtime\]'"):
        OnnxBackend(bright, "cpu")


# --- OpenVINO.


@pytest.fixture
def described(bright: Path, tmp_path: Path) -> Path:
    """The same network as OpenVINO's two files."""
    pytest.importorskip("openvino", reason="the openvino extra is not installed")
    path = tmp_path / "bright.xml"
    write_openvino(bright, path, onnx_metadata(SPEC))
    return path


def test_openvino_scores_as_onnxruntime(described: Path, bright: Path, movie: Path) -> None:
    one, other = OpenVinoBackend(described, "cpu", 1), OnnxBackend(bright, "cpu", 1)
    assert one.spec == other.spec == SPEC
    assert one.side == 32
    views = np.random.default_rng(0).integers(0, 256, (3, 2, 2, 3, 32, 32), np.uint8)
    assert one.score(views) == pytest.approx(other.score(views), abs=1e-5)
    assert isinstance(open_backend(described), OpenVinoBackend)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_several_threads_score_at_once(bright: Path, engine: str, request: Any) -> None:
    pytest.importorskip(engine)
    path = request.getfixturevalue("described") if engine == "openvino" else bright
    backend = open_backend(path)
    views = np.random.default_rng(0).integers(0, 256, (40, 2, 2, 3, 32, 32), np.uint8)
    expected = backend.score(views)
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(backend.score, [views] * 12):
            assert np.array_equal(found, expected)


def test_openvino_is_imported_without_its_reports(described: Path) -> None:
    code = f"""
import sys
from smnet.inference.onnx_backend import OnnxBackend
from smnet.inference.openvino_backend import OpenVinoBackend
OpenVinoBackend({str(described)!r})
assert sys.modules["openvino_telemetry"] is None
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda x: x.with_suffix(".bin").unlink(), r"bright\.bin: no such file"),
        (lambda x: x.with_suffix(".bin").write_bytes(b"1"), "OpenVINO cannot run it"),
        (lambda x: x.write_bytes(b"\x00\x01network"), "not an OpenVINO model"),
        (lambda x: x.write_text("<?xml version='1.0'?><net><layers/></net>"), r"bright\.xml: "),
        (lambda x: x.write_text(x.read_text()[:900]), "OpenVINO cannot run it"),
        (lambda x: _replace(x, "smnet-onnx/1", "smnet-onnx/9"), "format smnet-onnx/9"),
        (lambda x: _replace(x, "smnet-onnx/1", "other"), "smnet export did not write"),
        (lambda x: _replace(x, "num_classes&quot;: 3", "num_classes&quot;: 4"), "bright.xml: its"),
        (
            lambda x: _replace(x, "input_size&quot;: 32", "input_size&quot;: 33"),
            "do not match its metadata",
        ),
    ],
)
def test_wrong_and_damaged_openvino_files(
    described: Path, spoil: Callable[[Path], Any], says: str
) -> None:
    spoil(described)
    with pytest.raises(UserError, match=says):
        OpenVinoBackend(described, "cpu", 1)


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_openvino_files_are_bounded(described: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_module, "MAX_DESCRIPTION", 100)
    with pytest.raises(UserError, match="over the limit"):
        OpenVinoBackend(described)
    with pytest.raises(UserError, match="device=cuda"):
        OpenVinoBackend(described, "cuda")


def test_without_openvino_the_message_says_how_to_install_it(
    bright: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"pip install 'openvino"):
        OpenVinoBackend(bright, "cpu")


# --- A machine without torch.

WITHOUT = "import sys; sys.modules['torch'] = None\n"


def python(code: str, *words: object) -> Called:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + code, *map(str, words)], capture_output=True, text=True
    )
    return Called(done.returncode, done.stdout, done.stderr)


CLI = "from smnet.cli import main as cli; sys.argv[0] = 'smnet'; cli.main()"
SLOW_TO_IMPORT = ("smnet.recipes.keys", "smnet.checkpoints.download")
"""A first answer does without these: pydantic builds the recipe, and ssl is loaded."""


def test_prediction_without_torch(bright: Path, movie: Path, smnet: Callable[..., Called]) -> None:
    pytest.importorskip("onnxruntime")
    slow = "".join(f"sys.modules[{name!r}] = None\n" for name in SLOW_TO_IMPORT)
    alone = python(slow + CLI, "predict", bright, movie, "--json")
    assert alone.err == ""
    assert alone.status == 0
    assert alone.out == smnet("predict", bright, movie, "--json").out
    code = "import smnet; print(smnet.Recognizer.load(sys.argv[1]).predict(sys.argv[2]).label)"
    assert python(code, bright, movie).out.strip() == CLASSES[2]


def test_prediction_by_openvino_without_torch(described: Path, movie: Path) -> None:
    alone = python(CLI, "predict", described, movie, "--json")
    assert (alone.err, alone.status) == ("", 0)
    assert json.loads(alone.out)["label"] == CLASSES[2]


def test_commands_that_need_torch_say_so(run: Path, movie: Path) -> None:
    for words in (("predict", run, movie), ("models",)):
        said = python(CLI, *words)
        assert said.status == 1
        assert "needs PyTorch, which is not installed" in said.err
        assert said.err.count("\n") == 1
