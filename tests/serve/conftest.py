"""Servers in threads on the loopback address, and small networks for them."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from smnet.inference.exported import INPUT, OUTPUT, onnx_metadata
from smnet.models.spec import ModelSpec
from smnet.serve.limits import Limits
from tests.live.conftest import causal  # noqa: F401, a fixture
from tests.timeline.conftest import NAMES, film, network  # noqa: F401, fixtures

if TYPE_CHECKING:
    from smnet.serve.run import Server
    from smnet.serve.service import Service

LIMITS = Limits(idle=60.0, timeout=120.0)  # for a busy machine


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported file whose scores follow the tint of the frames, made without PyTorch."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto
    spec = ModelSpec("tsn_resnet18", 3, 4, input_size=16, short_side=16, class_names=NAMES)
    weights = np.array([[-1, 0, 1], [0, 0.9, 0], [1, 0, -1]], np.float32) / 10
    nodes = [
        helper.make_node("Cast", [INPUT], ["float"], to=kind.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["colour"], keepdims=0),
        helper.make_node("MatMul", ["colour", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [OUTPUT]),
    ]
    graph = helper.make_graph(
        nodes,
        "tints",
        [helper.make_tensor_value_info(INPUT, kind.UINT8, ["batch", 4, 3, 16, 16])],
        [helper.make_tensor_value_info(OUTPUT, kind.FLOAT, ["batch", 3])],
        [
            onnx.numpy_helper.from_array(np.array([1, 3, 4]), "axes"),
            onnx.numpy_helper.from_array(weights, "weights"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    helper.set_model_props(model, onnx_metadata(spec))
    path = tmp_path_factory.mktemp("exported") / "tints.onnx"
    onnx.save(model, str(path))
    return path


@dataclass
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Running:
    """A server in a thread."""

    service: Service
    server: Server
    port: int
    thread: threading.Thread

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=240)

    def ask(
        self,
        path: str,
        *files: tuple[str, bytes],
        method: str | None = None,
        body: Any = None,
        headers: Mapping[str, str] = {},
        fields: Sequence[tuple[str, str]] = (),
    ) -> Reply:
        """A request; files and fields are sent as a form."""
        connection = self.connect()
        given = dict(headers)
        if files or fields:
            body, given["Content-Type"] = form(files, fields)
        method = method or ("GET" if body is None else "POST")
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()


def form(
    files: Sequence[tuple[str, bytes]], fields: Sequence[tuple[str, str]] = ()
) -> tuple[bytes, str]:
    """A multipart body and its type."""
    border = b"6d3f0c"
    parts = [
        b'--%b\r\nContent-Disposition: form-data; name="files"; filename="%b"\r\n'
        b"Content-Type: video/mp4\r\n\r\n%b\r\n" % (border, name.encode(), content)
        for name, content in files
    ]
    parts += [
        b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
        % (border, name.encode(), value.encode())
        for name, value in fields
    ]
    return b"".join(
        parts
    ) + b"--%b--\r\n" % border, f"multipart/form-data; boundary={border.decode()}"


@contextmanager
def running(
    paths: Sequence[Path],
    limits: Limits = LIMITS,
    token: str | None = None,
    workers: int = 2,
    report: str = "",
) -> Iterator[Running]:
    # Imported here, so that the tests are skipped without the extra.
    from smnet.serve.models import open_models
    from smnet.serve.run import Server, configuration, listen
    from smnet.serve.service import Service

    service = Service(open_models([str(p) for p in paths], "cpu"), limits, workers, report=report)
    server = Server(configuration(service, token, 120.0), service)
    listening = listen("127.0.0.1", 0)
    listening.listen()
    port = listening.getsockname()[1]
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        yield Running(service, server, port, thread)
    finally:
        server.should_exit = True
        thread.join(180)
        service.close()
    assert not service.folder.exists()


@pytest.fixture(scope="session")
def served(network: Path, causal: Path) -> Iterator[Running]:  # noqa: F811
    with running([network, causal]) as server:
        yield server
