"""Exported files say what their checkpoints say, carry what they need, and are refused if not."""

from __future__ import annotations

import copy
import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("onnx", reason="the export extra is not installed")
pytest.importorskip("onnxscript", reason="the export extra is not installed")
pytest.importorskip("onnxruntime", reason="the export extra is not installed")

import onnx

from smnet.checkpoints.file import Checkpoint, load, read_checkpoint, save_checkpoint
from smnet.checkpoints.metadata import read_specification
from smnet.data.annotations.read import read_clips
from smnet.data.annotations.source import ClipSource
from smnet.errors import UserError
from smnet.evaluation.evaluate import evaluate_checkpoints
from smnet.export import export as export_module
from smnet.export import parity as parity_module
from smnet.export import quantise as quantise_module
from smnet.export import writers as writers_module
from smnet.export.export import Exported, export
from smnet.export.onnx_rewrites import put_maxima_first, use_engine_forms
from smnet.export.parity import Trial, compare, drop_of, parity_table, score, trial_clips
from smnet.export.quantise import _Maker, _rank, part_of, quantise, whole_clips
from smnet.export.writers import (
    Deployed,
    check_precision,
    quiet_exporter,
    run_onnx,
    run_openvino,
    trace,
    write_onnx,
    write_openvino,
)
from smnet.inference.exported import INPUT, OUTPUT, ExportedBackend, onnx_metadata
from smnet.inference.onnx_backend import OnnxBackend
from smnet.inference.openvino_backend import OpenVinoBackend
from smnet.inference.recognizer import Recognizer
from smnet.models import VideoModel, build_model, create_model
from smnet.models.fast import Purpose
from smnet.models.fast.folding import fold_norms
from smnet.models.resnet import ResidualBlock
from smnet.training.loop import train
from tests.conftest import CLASSES, Called, tiny, write_clips
from tests.families import ONE_OF_EACH

pytestmark = pytest.mark.usefixtures("short_networks", "torchlib")


def silent(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips"), {"train": 3, "val": 2})


@pytest.fixture(scope="module")
def net(short_networks: None, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, trained well enough to be right."""
    folder = tmp_path_factory.mktemp("runs") / "net"
    assert train(tiny(data, epochs=20), folder).finished
    return folder


@pytest.fixture(scope="module")
def plain(net: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that is exported in a second, for tests that are not about the network."""
    path = tmp_path_factory.mktemp("plain") / "plain.safetensors"
    trained, model = read_checkpoint(net), create_model("tsn_resnet18", 3, 2, width=8)
    spec = replace(trained.spec, name=model.spec.name, options=model.spec.options)
    save_checkpoint(path, replace(trained, spec=spec, tensors=random_start(model).state_dict()))
    return path


@pytest.fixture(scope="module")
def exported(torchlib: None, net: Path, data: Path) -> Exported:
    return export(net, calibration=str(data))


def random_start(model: VideoModel) -> VideoModel:
    """Away from the start at which gates are even and scores equal."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.normal_(module.bias, 0, 0.1)
        elif isinstance(module, nn.Conv2d) and not module.weight.any():
            nn.init.normal_(module.weight, 0, 0.1)
    for weight in (p for p in model.fc.parameters() if p.dim() > 1):
        nn.init.normal_(weight, 0, 1 / weight[0].numel() ** 0.5)
    return model.eval()


def folded_copy(model: VideoModel) -> VideoModel:
    copied = copy.deepcopy(model).eval()
    fold_norms(copied)
    return copied


def small(name: str) -> VideoModel:
    options: dict[str, Any] = {} if name.endswith("mobilenetv2") else {"width": 8}
    model = create_model(name, 4, 2, **options)
    model.spec = replace(model.spec, input_size=32, short_side=32)
    for block in (b for stage in ("layer2", "layer3") for b in getattr(model, stage, ())):
        if isinstance(block, ResidualBlock):
            block.temporal = None  # two that carry it are as good as four
    return random_start(model)


def program_of(model: VideoModel, purpose: Purpose = "export") -> torch.export.ExportedProgram:
    with quiet_exporter():
        return trace(model, purpose=purpose)


def write(model: VideoModel, path: Path, purpose: Purpose = "export") -> None:
    try:
        with quiet_exporter():
            write_onnx(program_of(model, purpose), path, onnx_metadata(model.spec), purpose=purpose)
    except UserError as error:
        if not torch.__version__.startswith("2.6"):  # it knows no normalisation on its own
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_every_family_exports_and_agrees(name: str, tmp_path: Path) -> None:
    model = small(name)
    path = tmp_path / "model.onnx"
    write(model, path, "onnx")
    backend = OnnxBackend(path, "cpu", 1)
    assert backend.spec == model.spec
    rng = np.random.default_rng(1)
    for batch in (1, 3):
        frames = rng.integers(0, 256, (batch, model.spec.frames_per_clip, 3, 32, 32), np.uint8)
        expected = export_module._scorer(model)(frames)
        found = backend.score(frames[:, None])
        assert found.shape == (batch, 4)
        assert np.abs(found - expected).max() < 1e-4
        assert expected.std() > 1e-3  # or the comparison could not fail
    operators = {node.op_type for node in onnx.load(path).graph.node}
    unfolded = any("running_mean" in key for key in folded_copy(model).state_dict())
    assert "BatchNormalization" not in operators or unfolded
    assert not (unfolded and name.startswith(("tsn", "tsm", "smnet")))


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_clips_of_one_segment(name: str) -> None:
    """Nothing is before or after it, and the number of frames is that of clips."""
    spec = replace(small(name).spec, num_segments=1)
    try:
        model = random_start(build_model(spec))
    except ValueError as error:
        pytest.skip(f"a family that wants more of them: {error}")
    program = program_of(model).module()
    for batch in (1, 3):
        size = (batch, spec.frames_per_clip, 3, 32, 32)
        frames = torch.randint(0, 256, size, dtype=torch.uint8)
        torch.testing.assert_close(program(frames), Deployed(model)(frames))


def test_what_cannot_be_traced_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def branch(features: torch.Tensor) -> torch.Tensor:
        return features.mean((1, 3, 4)) if features.sum() > 0 else features[:, 0, :, 0, 0]

    model = small("tsn_resnet18")
    monkeypatch.setattr(model, "forward_head", branch)
    with pytest.raises(UserError, match=r"PyTorch .* cannot export tsn_resnet18 \(.+\)$"):
        trace(model)


@pytest.mark.parametrize(
    ("opset", "said"),
    [(None, f"PyTorch {torch.__version__} cannot write this model as ONNX"), (7, "--opset 7: ")],
)
def test_what_the_exporter_refuses_is_one_error(
    opset: int | None, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("\x1b[96mThis is step 2/3\x1b[0m\nof exporting")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(UserError) as caught:
        write_onnx(None, tmp_path / "model.onnx", {}, opset)  # type: ignore[arg-type]
    assert str(caught.value).startswith(said)
    assert str(caught.value).endswith("(This is step 2/3 of exporting)")


def test_the_opset_of_the_file_is_the_one_asked_for(tmp_path: Path) -> None:
    model, opset = small("tsn_resnet18"), 18
    with quiet_exporter():
        write_onnx(trace(model), tmp_path / "model.onnx", onnx_metadata(model.spec), opset)
    written = onnx.load(tmp_path / "model.onnx").opset_import
    assert [entry.version for entry in written if not entry.domain] == [opset]


def test_an_exporter_that_silently_writes_another_opset(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = program_of(small("tsn_resnet18"))
    export_program = torch.onnx.export
    monkeypatch.setattr(
        torch.onnx, "export", lambda *a, **k: export_program(*a, **{**k, "opset_version": 18})
    )
    with pytest.raises(UserError, match=r"--opset 21: PyTorch .* wrote this model in opset 18"):
        write_onnx(program, tmp_path / "model.onnx", {}, 21)
    assert not list(tmp_path.iterdir())


def test_an_exporter_that_silently_writes_another_precision(exported: Exported) -> None:
    check_precision(exported.path, "fp32")
    with pytest.raises(UserError, match="--precision fp16: the exporter wrote fp32 instead"):
        check_precision(exported.path, "fp16")


@pytest.mark.parametrize("name", [*ONE_OF_EACH, "tsm_mobilenetv2"])
def test_folding_changes_no_scores(name: str) -> None:
    model = small(name)
    folded = folded_copy(model)
    clips = torch.randn(2, model.spec.frames_per_clip, 3, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(folded(clips), model(clips), rtol=1e-4, atol=1e-5)
    norms = [sum("running_mean" in key for key in m.state_dict()) for m in (model, folded)]
    assert norms[1] <= norms[0] / 2


def test_a_norm_whose_convolution_is_used_elsewhere_stays() -> None:
    class Twice(VideoModel):
        def __init__(self) -> None:
            super().__init__(small("tsn_resnet18").spec, 3)
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
            self.shared, self.first, self.second = (
                nn.Conv2d(3, 3, 1),
                nn.BatchNorm2d(3),
                nn.BatchNorm2d(3),
            )

        def forward_features(self, clips: torch.Tensor) -> torch.Tensor:
            x = clips.flatten(0, 1)
            y = self.conv(x)
            y = self.norm(y) + y
            y = self.first(self.shared(y)) + self.second(self.shared(x))
            return y.unflatten(0, clips.shape[:2])

    model = random_start(Twice())
    folded = folded_copy(model)
    clips = torch.randn(2, 2, 3, 32, 32)
    assert torch.allclose(folded(clips), model(clips), atol=1e-6)
    assert folded.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("smnet_resnet18", "onnxruntime"),
        ("smnet_resnet18", "volumes"),
        ("action_resnet18", "openvino"),
        ("tdn_resnet18", "onnxruntime"),  # maps of one pixel
    ],
)
def test_forms_for_engines_change_no_scores(name: str, engine: Purpose, tmp_path: Path) -> None:
    model = small(name)
    path = tmp_path / "model.onnx"
    write(model, path, engine)
    if torch.__version__.startswith("2.6"):
        pytest.skip("its exporter writes no shapes, and the forms are found by those")
    onnx.checker.check_model(onnx.load(path))
    graph = onnx.load(path).graph
    assert (engine == "onnxruntime") == ("SpaceToDepth" in {node.op_type for node in graph.node})
    if name != "tdn_resnet18" and engine != "volumes":  # a map of one pixel needs no mean
        assert "GlobalAveragePool" in {node.op_type for node in graph.node}
    assert not any(
        n.op_type == "Gather" and len(_shape(graph, n.input[0])) == 4 for n in graph.node
    )
    runs = [run_onnx(path, 1)]
    if engine in ("openvino", "volumes") and find_spec("openvino"):
        write_openvino(path, path.with_suffix(".xml"), onnx_metadata(model.spec))
        runs.append(run_openvino(path.with_suffix(".xml"), 1))
    shape = (3, model.spec.frames_per_clip, 3, 32, 32)
    frames = np.random.default_rng(2).integers(0, 256, shape, np.uint8)
    expected = export_module._scorer(model)(frames)
    for run in runs:
        assert np.abs(run(frames) - expected).max() < 1e-4
    assert expected.std() > 1e-3


def _shape(graph: Any, name: str) -> Any:
    found = [v.type.tensor_type.shape.dim for v in graph.value_info if v.name == name]
    return found[0] if found else []


@pytest.mark.parametrize(
    ("kernel", "pad", "size", "squares"),
    [
        (7, 3, (12, 8), True),
        (3, 1, (4, 6), True),
        (7, 3, (12, 9), False),
        (5, 2, (8, 8), False),
        (3, 0, (8, 8), False),
    ],
)
def test_a_convolution_of_squares_is_the_convolution_of_pixels(
    kernel: int, pad: int, size: tuple[int, int], squares: bool
) -> None:
    helper, rng = onnx.helper, np.random.default_rng(0)
    x = rng.normal(size=(2, 3, *size)).astype(np.float32)
    weight, bias = rng.normal(size=(5, 3, kernel, kernel)), rng.normal(size=5)
    conv = helper.make_node("Conv", ["x", "w", "b"], ["y"], strides=[2, 2], pads=[pad] * 4)
    graph = helper.make_graph(
        [conv],
        "stem",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", "c", "h", "w"])],
        [
            onnx.numpy_helper.from_array(weight.astype(np.float32), "w"),
            onnx.numpy_helper.from_array(bias.astype(np.float32), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    expected = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})
    use_engine_forms(model)
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["SpaceToDepth"] * squares + ["Conv"]
    found = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})
    assert found[0].shape == expected[0].shape
    assert np.abs(found[0] - expected[0]).max() < 1e-4


def test_the_largest_of_codes_is_the_code_of_the_largest(tmp_path: Path) -> None:
    helper, types = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["x"], name="a"),
        helper.make_node("ReduceMax", ["x", "axes"], ["y"], name="b", keepdims=1),
    ]
    graph = helper.make_graph(
        nodes,
        "maximum",
        [helper.make_tensor_value_info("codes", types.UINT8, [2, 5])],
        [helper.make_tensor_value_info("y", types.FLOAT, [2, 1])],
        [
            onnx.numpy_helper.from_array(np.float32(0.25), "scale"),
            onnx.numpy_helper.from_array(np.uint8(7), "zero"),
            onnx.numpy_helper.from_array(np.array([1]), "axes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    put_maxima_first(model)
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node][-2:] == ["ReduceMax", "DequantizeLinear"]
    codes = np.random.default_rng(0).integers(0, 256, (2, 5), np.uint8)
    (found,) = onnx.reference.ReferenceEvaluator(model).run(None, {"codes": codes})
    assert found == pytest.approx((codes.max(1, keepdims=True).astype(float) - 7) * 0.25)


# --- The file and what is beside it.


def test_the_file_tells_what_it_is(net: Path, exported: Exported) -> None:
    assert exported.path == net / "best.onnx"
    model = onnx.load(exported.path)
    onnx.checker.check_model(model)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    spec = read_checkpoint(net).spec
    assert read_specification(properties["spec"]) == spec
    assert properties["classes"].split("\n") == list(CLASSES)
    assert (properties["sampling"], properties["segments"], properties["input_size"]) == (
        "uniform",
        "2",
        "32",
    )
    (frames,), (scores,) = model.graph.input, model.graph.output
    assert (frames.name, scores.name) == (INPUT, OUTPUT)
    assert frames.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert frames.type.tensor_type.shape.dim[0].dim_param
    assert b"site-packages" not in exported.path.read_bytes()  # no paths of this machine


def test_the_report(net: Path, exported: Exported) -> None:
    report = json.loads((net / "best.onnx.json").read_text())
    assert exported.report == net / "best.onnx.json"
    assert report["bytes"] == exported.path.stat().st_size
    assert (report["to"], report["precision"], report["int8"]) == ("onnx", "fp32", None)
    parity = report["parity"]
    assert parity["clips"] == 6
    assert "split val" in parity["source"]
    assert parity["max_abs"] < 1e-4
    assert parity["agreement"] == 1
    assert parity["top1_before"] == parity["top1_after"] > 0.6
    assert min(parity["ms_before"], parity["ms_after"]) > 0
    assert 0 < parity["speedup_low"] <= parity["speedup"] <= parity["speedup_high"]
    assert {"onnxruntime", "torch", "processor"} <= set(report["machine"])


def test_prediction_by_the_file_and_by_the_checkpoint(
    net: Path, data: Path, exported: Exported, smnet: Callable[..., Called]
) -> None:
    videos = sorted((data / "val").rglob("*.mp4"))
    ours, theirs = (
        list(Recognizer.load(path, "cpu").predict_many(videos)) for path in (exported.path, net)
    )
    for one, other in zip(ours, theirs, strict=True):
        assert one.labels == other.labels
        assert one.scores == pytest.approx(other.scores, abs=1e-4)
    by_file = smnet("predict", exported.path, videos[0])
    assert by_file.status == 0
    assert by_file.out == smnet("predict", net, videos[0]).out
    assert smnet("predict", net, videos[0], "--backend", "onnxruntime").out == by_file.out


def test_a_program_of_torch(net: Path, tmp_path: Path, smnet: Callable[..., Called]) -> None:
    path = tmp_path / "new" / "model.pt2"
    made = smnet("export", net, "--to", "torch", "--out", path)
    assert made.status == 0, made.err
    assert "random clips, not of your data" in made.out
    assert f"report: {path}.json" in made.out
    extra = {"smnet.json": ""}
    program = torch.export.load(path, extra_files=extra).module()
    assert read_specification(json.loads(extra["smnet.json"])["spec"]) == read_checkpoint(net).spec
    frames = np.random.default_rng(0).integers(0, 256, (3, 2, 3, 32, 32), np.uint8)
    expected = export_module._scorer(load(net))(frames)
    assert np.allclose(program(torch.from_numpy(frames)).detach(), expected, atol=1e-5)


# --- int8.


def test_int8(net: Path, data: Path, tmp_path: Path, smnet: Callable[..., Called]) -> None:
    path = tmp_path / "small.onnx"
    made = smnet("export", net, "--precision", "int8", "--calibration", data, "--out", path)
    assert made.status == 0, made.err
    assert "calibrating on 9 clips" in made.err
    assert "with 6 clips, the loss is known in steps of 16.7 points" in made.err
    assert "same best class" in made.out
    report = json.loads((tmp_path / "small.onnx.json").read_text())
    assert report["int8"]["drop"] <= 0.5
    assert report["int8"]["parts"] == ["stem", *(f"layer{i}.0" for i in range(1, 5))]
    assert report["parity"]["max_abs"] > 1e-6  # it is not the fp32 file
    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert "QuantizeLinear" in operators
    assert path.stat().st_size < 0.8 * (net / "best.safetensors").stat().st_size
    (video, *_) = sorted((data / "val").rglob("*.mp4"))
    assert Recognizer.load(path).predict(video).label == Recognizer.load(net).predict(video).label


@pytest.fixture
def spoilt(net: Path, exported: Exported, tmp_path: Path) -> tuple[Path, Any]:
    """The network with one channel between two convolutions of layer2.0 a thousand times as large,
    which the second takes back: the same in fp32, but in int8 nothing of the others is left."""
    model = onnx.load(exported.path)
    nodes = [n for n in model.graph.node if n.op_type == "Conv" and part_of(n) == "layer2.0"]
    tensors = {t.name: t for t in model.graph.initializer}
    shapes = [tensors[n.input[1]].dims for n in nodes]
    first, second = (n for n, s in zip(nodes, shapes, strict=True) if s[2] == 3)
    for name, where, by in (
        (first.input[1], np.s_[0], 1000),
        (first.input[2], np.s_[0], 1000),
        (second.input[1], np.s_[:, 0], 0.001),
    ):
        values = onnx.numpy_helper.to_array(tensors[name]).copy()
        values[where] *= by
        tensors[name].CopyFrom(onnx.numpy_helper.from_array(values, name))
    path = tmp_path / "spoilt.onnx"
    onnx.save(model, path)
    rng = np.random.default_rng(0)
    return path, rng.integers(0, 256, (8, 2, 3, 32, 32), np.uint8)


def test_the_sensitive_part_is_found_and_kept(spoilt: tuple[Path, Any], tmp_path: Path) -> None:
    path, clips = spoilt
    target = tmp_path / "int8.onnx"
    lines: list[str] = []
    asked: list[int] = []

    def drop(file: Path) -> float:
        asked.append(file.stat().st_size)
        return 0.0 if len(asked) == 2 else 7.0

    found = quantise(path, target, clips, drop, lines.append, "onnxruntime", whole_clips, run_onnx)
    assert found.kept == ("layer2.0",)
    assert found.drop == 0
    assert asked[1] > asked[0]
    assert lines[0].startswith("int8, 0 of 5 parts in fp32: +7.00 points")
    inside = {n.name for n in onnx.load(path).graph.node if part_of(n) == "layer2.0"}
    floats = [n for n in onnx.load(target).graph.node if n.op_type == "Conv" and n.name in inside]
    weights = {t.name for t in onnx.load(target).graph.initializer}
    assert floats
    assert all(node.input[1] in weights for node in floats)  # as they are, not behind a scale


def test_int8_that_costs_too_much_is_refused(
    plain: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    smnet: Callable[..., Called],
) -> None:
    monkeypatch.setattr(export_module, "drop_of", lambda *_: 3.0)
    monkeypatch.setattr(quantise_module, "_rank", lambda maker, *_: list(maker.parts))
    path = tmp_path / "new" / "int8.onnx"
    refused = smnet("export", plain, "--precision", "int8", "--calibration", data, "--out", path)
    assert refused.status == 1
    assert "int8, 2 of 5 parts in fp32" in refused.err
    assert "smnet: int8 costs 3.00 points of top-1 with 2 of 5 parts" in refused.err
    assert not path.parent.exists()


def test_ranking_does_not_depend_on_the_order(spoilt: tuple[Path, Any], tmp_path: Path) -> None:
    path, clips = spoilt
    maker = _Maker(path, tmp_path, clips, "onnxruntime", whole_clips)
    maker.parts = dict(reversed(maker.parts.items()))
    assert _rank(maker, clips, run_onnx)[0] == "layer2.0"


# --- OpenVINO, and half precision.


def test_openvino(net: Path, data: Path, tmp_path: Path, smnet: Callable[..., Called]) -> None:
    pytest.importorskip("openvino", reason="the openvino extra is not installed")
    path = tmp_path / "new" / "model.xml"
    made = smnet("export", net, "--to", "openvino", "--calibration", data, "--out", path)
    assert made.status == 0, made.err
    report = json.loads(Path(f"{path}.json").read_text())
    assert report["parity"]["max_abs"] < 1e-3
    assert report["bytes"] == path.stat().st_size + path.with_suffix(".bin").stat().st_size
    assert "openvino" in report["machine"]
    assert OpenVinoBackend(path).spec == read_checkpoint(net).spec
    (video, *_) = sorted((data / "val").rglob("*.mp4"))
    by_file = smnet("predict", path, video)
    assert by_file.status == 0, by_file.err
    assert by_file.out == smnet("predict", net, video).out
    folder = shutil.copytree(path.parent, tmp_path / "run")
    (folder / "model.xml").rename(folder / "best.xml")
    (folder / "model.bin").rename(folder / "best.bin")
    assert smnet("predict", folder, video, "--backend", "openvino").out == by_file.out


def test_of_two_files_both_are_written_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copyfile
    target = tmp_path / "model.xml"
    for suffix in (".xml", ".bin"):
        (tmp_path / f"made{suffix}").write_text(f"new {suffix}")
        target.with_suffix(suffix).write_text(f"old {suffix}")
    for full in (".xml", ".bin"):

        def fail(source: Path, to: Path, full: str = full) -> None:
            if source.suffix == full:
                raise OSError(errno.ENOSPC, "No space left on device")
            copy(source, to)

        monkeypatch.setattr(shutil, "copyfile", fail)
        with pytest.raises(UserError, match="No space left"):
            export_module._place(tmp_path / "made.xml", target)
        assert target.read_text() == "old .xml"
        assert target.with_suffix(".bin").read_text() == "old .bin"
    monkeypatch.setattr(shutil, "copyfile", copy)
    assert export_module._place(tmp_path / "made.xml", target) == 16
    assert target.with_suffix(".bin").read_text() == "new .bin"
    assert len(os.listdir(tmp_path)) == 4


def test_openvino_int8(net: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="the openvino extra is not installed")
    made = export(net, tmp_path / "m.xml", to="openvino", precision="int8", calibration=str(data))
    assert made.quantised is not None
    assert made.quantised.drop <= 0.5
    assert made.quantised.parts == tuple(f"layer{i}.0" for i in range(1, 5))
    assert made.parity.max_abs < 0.1
    weights = made.path.with_suffix(".bin").stat().st_size
    assert weights < 0.8 * (net / "best.safetensors").stat().st_size
    assert 'type="FakeQuantize"' in made.path.read_text()
    assert made.parity.max_abs > 1e-6


def test_half_precision(net: Path, plain: Path, data: Path, tmp_path: Path) -> None:
    for to in ("onnx", "torch", *(["openvino"] if find_spec("openvino") else [])):
        path = tmp_path / f"half{writers_module.ENGINES[to].suffix}"
        made = export(
            net if to == "onnx" else plain, path, to=to, precision="fp16", calibration=str(data)
        )
        assert made.parity.agreement == 1
        assert made.parity.max_abs > 0
    tensors = onnx.load(tmp_path / "half.onnx").graph.initializer
    assert onnx.TensorProto.FLOAT not in {t.data_type for t in tensors if len(t.dims) == 4}
    assert onnx.TensorProto.FLOAT16 in {t.data_type for t in tensors if len(t.dims) == 4}
    with pytest.raises(UserError, match=r"fp16 costs 50\.00 points .* nothing was written"):
        export_module._accept(tmp_path, "fp16", replace(made.parity, drop=50.0))


# --- What is measured.


def said(*rows: list[float]) -> Callable[[Any], Any]:
    """A network that answers by the first pixel of a clip."""
    table = np.array(rows, np.float32)
    return lambda clips: table[clips[:, 0, 0, 0, 0]]


CLIPS = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1, 1)
BEFORE = said([0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.995, 0.005])
AFTER = said([0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.99, 0.01])


@pytest.mark.parametrize(
    ("labels", "top1", "drop"),
    [([0, 0, 1, 1], (0.75, 0.5), 25), ([0, 1, 1, 0], (0.75, 1.0), -25), (None, (None, None), 25)],
)
def test_parity_by_hand(
    labels: list[int] | None, top1: tuple[float | None, float | None], drop: float
) -> None:
    trial = Trial(CLIPS, None if labels is None else np.array(labels), "by hand")
    expected = score(BEFORE, trial)
    found = compare(BEFORE, AFTER, trial, 1, expected)
    assert found.max_abs == pytest.approx(0.2)
    assert found.max_rel == pytest.approx(1.0)  # 0.1 -> 0.2; scores below 1 % do not count
    assert found.agreement == 0.75
    assert (found.top1_before, found.top1_after) == top1
    assert found.drop == pytest.approx(drop)
    assert drop_of(expected, AFTER, trial) == pytest.approx(drop)
    assert found.to_dict()["drop"] == found.drop
    table = parity_table(found, "a", "b")
    assert table.row_count == (6 if labels else 5)


def test_a_tie_is_no_best_class() -> None:
    """As ``smnet evaluate`` counts, whose word on the file would be another one otherwise."""
    trial = Trial(CLIPS, np.zeros(4, np.int64), "by hand")
    tied = said([0.5, 0.5], *[[0.9, 0.1]] * 3)
    sure = said(*[[0.9, 0.1]] * 4)
    found = compare(sure, tied, trial, 1, score(sure, trial))
    assert (found.agreement, found.top1_before, found.top1_after) == (0.75, 1.0, 0.75)
    assert found.drop == drop_of(score(sure, trial), tied, trial) == 25
    assert drop_of(score(sure, trial), tied, replace(trial, labels=None)) == 25


def test_clips_are_scored_as_many_at_a_time_as_in_use() -> None:
    sizes = []

    def counted(clips: Any) -> Any:
        sizes.append(len(clips))
        return np.zeros((len(clips), 2), np.float32)

    clips = np.zeros((12, 1, 1, 1, 1), np.uint8)
    assert score(counted, Trial(clips, None, "by hand")).shape == (12, 2)
    assert sizes == [1, 2, 3, 4, 1, 1]


def test_one_clip_of_200_is_half_a_point() -> None:
    """0.465 - 0.46 is more than 0.005 in binary."""
    clips = np.zeros((200, 1, 1, 1, 1), np.uint8)
    clips[0] = 1
    right = np.array([0] * 93 + [1] * 107)
    trial = Trial(clips, right, "by hand")
    before, after = said([0.9, 0.1], [0.9, 0.1]), said([0.9, 0.1], [0.1, 0.9])
    assert drop_of(score(before, trial), after, trial) == 0.5
    assert compare(before, after, trial, 1, score(before, trial)).drop == 0.5


def test_scores_that_are_no_numbers_are_refused() -> None:
    trial = Trial(CLIPS, None, "by hand")
    broken = said([np.nan, 1], [0, 1], [0, 1], [0, 1])
    with pytest.raises(UserError, match="not finite"):
        compare(BEFORE, broken, trial, 1, score(BEFORE, trial))


def test_calibration_clips_of_a_list_elsewhere(
    plain: Path, data: Path, tmp_path: Path, smnet: Callable[..., Called]
) -> None:
    """Numbers from 1, names in another file, clips in another folder."""
    lines = [
        f"{clip.relative_to(data)} {CLASSES.index(clip.parent.name) + 1}"
        for clip in sorted(data.rglob("*.mp4"))
    ]
    lists, names = tmp_path / "val.txt", tmp_path / "names.txt"
    lists.write_text("\n".join(lines) + "\n")
    names.write_text("\n".join(CLASSES) + "\n")
    given = ["--to", "torch", "--calibration", lists, "--out", tmp_path / "m.pt2"]
    how = ["--root", data, "--labels", names, "--first-label", 1]
    made = smnet("export", plain, *given, *how)
    assert made.status == 0, made.err
    parity = json.loads((tmp_path / "m.pt2.json").read_text())["parity"]
    assert parity["agreement"] == 1.0
    assert parity["top1_before"] is not None
    assert smnet("export", plain, *given).status == 1
    alone = smnet("export", plain, *how)
    assert alone.status == 1
    assert "--root, --labels, --first-label: " in alone.err
    assert "--calibration" in alone.err


def test_clips_of_a_trial(net: Path, data: Path, tmp_path: Path) -> None:
    spec = read_checkpoint(net).spec
    with trial_clips(spec, str(data), "val", 500) as trial:
        assert trial.clips.shape == (6, 2, 3, 32, 32)
        assert trial.labels is not None
        assert trial.labels.tolist() == [0, 0, 1, 1, 2, 2]
        assert "of" not in trial.source.partition("(")[0]
    turned = replace(spec, class_names=CLASSES[::-1])
    with trial_clips(turned, str(data), "train", 4) as trial:
        assert trial.labels is not None
        assert trial.labels.tolist() == [2, 2, 1, 0]  # by name; clips 0, 2, 5, 8
        assert trial.source.startswith("4 clips of 9, evenly spread (split train")
    with trial_clips(replace(spec, class_names=("a", "b", "c")), str(data), "val", 9) as trial:
        assert trial.labels is None
    with trial_clips(spec, None, "val", 9) as trial:
        assert trial.clips.shape == (parity_module.RANDOM_CLIPS, 2, 3, 32, 32)
        assert trial.labels is None
    broken = shutil.copytree(data, tmp_path / "broken")
    (broken / "val" / "falling" / "0.mp4").write_bytes(b"x")
    with (
        pytest.raises(UserError, match=r"falling/0\.mp4"),
        trial_clips(spec, str(broken), "val", 9),
    ):
        pass


# --- Refusals.


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"to": "coreml"}, "--to coreml: use onnx, openvino, torch"),
        ({"precision": "int4"}, "--precision int4: --to onnx has fp32, fp16, int8"),
        ({"precision": "int8"}, "give --calibration DATA"),
        (
            {"to": "torch", "precision": "int8", "calibration": "x"},
            "--precision int8: --to torch has fp32, fp16",
        ),
        ({"to": "torch", "opset": 18}, "--to torch has none"),
        ({"opset": 13}, "--opset 13: use 18 to "),
        ({"opset": 0}, "--opset 0: use 18 to "),
        ({"opset": 9999}, "--opset 9999: use 18 to "),
        ({"out": "model.pb"}, r"ends in \.onnx"),
        ({"calibration": "nowhere"}, "nowhere"),
    ],
)
def test_settings_that_do_not_go_together(net: Path, given: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        export(net, **given)


def test_a_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such checkpoint"):
        export(tmp_path / "x.safetensors")


def test_the_extra_that_is_not_installed(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'smnet-video\[export\]'"):
        export(net)


def test_a_file_that_says_something_else_is_not_written(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = load(plain)
    nn.init.normal_(wrong.fc.weight)
    right = writers_module.trace
    monkeypatch.setattr(writers_module, "trace", lambda model, half: right(wrong, half))
    with pytest.raises(UserError, match=r"exported scores differ .* nothing was written"):
        export(plain, tmp_path / "x.pt2", to="torch")
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_names(plain: Path, tmp_path: Path) -> None:
    old = read_checkpoint(plain)
    bare = Checkpoint(replace(old.spec, class_names=None), old.tensors)
    save_checkpoint(tmp_path / "bare.safetensors", bare)
    made = export(tmp_path / "bare.safetensors", to="torch")
    assert made.path == tmp_path / "bare.pt2"
    assert made.parity.agreement == 1


# --- Measured like a checkpoint.


def test_an_exported_file_is_evaluated_like_its_checkpoint(
    net: Path, exported: Exported, data: Path
) -> None:
    options = {"views": "2x1", "workers": 0, "device": "cpu"}
    expected = evaluate_checkpoints([str(net)], str(data), **options)
    found = evaluate_checkpoints([str(exported.path)], str(data), **options)
    assert expected is not None
    assert found is not None
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    assert found.top(1).value == expected.top(1).value
    assert (found.paths, found.classes) == (expected.paths, expected.classes)
    both = evaluate_checkpoints([str(net), str(exported.path)], str(data), weights="1,3", **options)
    assert both is not None
    np.testing.assert_allclose(both.scores, expected.scores, atol=1e-5)


def test_it_knows_which_clips_it_was_trained_on(plain: Path, tmp_path: Path) -> None:
    data = write_clips(tmp_path / "made", {"train": 5}) / "train"  # without a split
    other = read_checkpoint(plain)
    other = replace(other, recipe={**other.recipe, "split_seed": 1, "val_fraction": 0.4})
    save_checkpoint(tmp_path / "other.safetensors", other)
    wanted = [
        c.path for c in read_clips(ClipSource(data, split_seed=1, val_fraction=0.4)).splits["val"]
    ]
    assert wanted != [c.path for c in read_clips(data).splits["val"]]
    lines: list[str] = []
    made = export(
        tmp_path / "other.safetensors", precision="int8", calibration=str(data), say=lines.append
    )
    assert made.parity.clips == len(wanted)
    assert f"calibrating on {15 - len(wanted)} clips" in lines[1]
    result = evaluate_checkpoints([str(made.path)], str(data), workers=0, device="cpu")
    assert result is not None
    assert list(result.paths) == wanted


def test_an_unreadable_clip_is_counted_with_an_exported_file_too(
    exported: Exported, tmp_path: Path
) -> None:
    tree = write_clips(tmp_path / "clips", {"val": 2})
    first = min((tree / "val").rglob("*.mp4"))
    first.write_bytes(b"no video")
    ask = {"workers": 0, "device": "cpu"}
    with pytest.raises(UserError, match=first.name):
        evaluate_checkpoints([str(exported.path)], str(tree), **ask)
    result = evaluate_checkpoints([str(exported.path)], str(tree), on_error="skip", **ask)
    assert result is not None
    assert len(result.problems) == 1
    assert np.isnan(result.scores).all(1).sum() == 1
    assert len(result.labels) == 6


def test_evaluation_of_an_exported_file_from_the_command_line(
    exported: Exported,
    data: Path,
    smnet: Callable[..., Called],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["evaluate", str(exported.path), "--data", str(data), "--workers", "0"]
    assert "top-1" in smnet(*words).out
    monkeypatch.setattr(ExportedBackend, "side", 30)  # as of a file for other crops
    answer = smnet(*words, "--views", "1x3")
    assert answer.status != 0
    assert "views 1x3 have crops of 32 pixels, and the exported file takes 30" in answer.err


def test_evaluation_of_a_file_that_is_none(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.onnx: no such file"):
        evaluate_checkpoints([str(tmp_path / "nowhere.onnx")], str(data), workers=0, device="cpu")
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(UserError, match=r"empty\.onnx: onnxruntime .* cannot run it"):
        evaluate_checkpoints([str(tmp_path / "empty.onnx")], str(data), workers=0, device="cpu")
