"""The process of ``smnet serve``: without PyTorch, and to its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="smnet serve needs the extra serve")

from smnet.serve.models import model_name
from tests.conftest import Called
from tests.serve.conftest import form


def accepted(port: int) -> float:
    """Requests that wait or were answered, by the metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=240) as answer:
        lines = answer.read().decode().splitlines()
    counted = ("smnet_requests_in_progress ", 'smnet_requests_total{path="/v1/predict"')
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(counted))


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 2).close()
    except ConnectionRefusedError:
        return True
    except TimeoutError:
        pass
    return False


@pytest.mark.slow
def test_a_process_without_pytorch_that_is_ended_under_load(
    exported: Path, film: Path, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    code = (
        "import sys, time; sys.modules['torch'] = None; from pathlib import Path;"
        " import smnet.serve.workers as workers; read = workers.read_item;"
        f" wait = lambda: any(time.sleep(0.05) for _ in iter(Path({str(go)!r}).exists, True));"
        " workers.read_item = lambda *words: (wait(), read(*words))[1];"
        " from smnet.cli.main import main;"
        f" sys.argv = ['smnet', 'serve', {str(exported)!r}, '--port', '0', '--workers', '1',"
        " '--timeout', '600', '--drain', '600'];"
        " main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stderr is not None
    line = ""
    while "page and server" not in line:
        line = process.stderr.readline()
        assert line, process.wait()
    port = int(line.partition("127.0.0.1:")[2].partition("/")[0])
    body, kind = form([("film.mp4", film.read_bytes())])
    head = (
        "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )

    def ask(connection: socket.socket) -> bytes:
        answer = b""
        while block := connection.recv(65536):
            answer += block
        return answer

    connections = [socket.create_connection(("127.0.0.1", port), 240) for _ in range(8)]
    for connection in connections:
        connection.sendall(head.encode() + body)
    while accepted(port) < len(connections):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    while not refuses(port):  # new clients must not wait for its end
        time.sleep(0.1)
    assert process.poll() is None
    go.touch()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, connections))
    assert [answer[:12] for answer in answers] == [b"HTTP/1.1 200"] * 8
    assert process.wait(240) == 0
    assert list(tmp_path.glob("smnet*")) == []  # nothing of the uploads is left
    for connection in connections:
        connection.close()


def test_mistakes_on_the_command_line(
    smnet: Callable[..., Called], exported: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words, message in (
            ((exported, "--host", "0.0.0.0"), "SMNET_TOKEN"),
            ((exported, "--token", "short"), "at least 16"),
            ((exported, "--port", port), "in use"),
            ((exported, "--allow-addresses", "example.org"), "with a slash at the end"),
            ((tmp_path / "none.onnx", "--port", 0), "no such file"),
            ((exported, exported, "--port", 0), "given twice"),
            ((exported, "--report", tmp_path / "none.html"), "smnet evaluate --report FILE.html"),
            ((exported, "--report", exported), "is not a page"),
        ):
            called = smnet("serve", *words)
            assert called.status == 1
            assert message in called.err
            assert called.err.count("\n") == 1


def test_names_of_models() -> None:
    assert model_name("runs/mine", []) == "mine"
    assert model_name("runs/mine/best.safetensors", []) == "mine"
    assert model_name("runs/mine/best.onnx", ["mine"]) == "mine-2"
    assert model_name("small.onnx", []) == "small"
    assert model_name("tsm_resnet50-kinetics400", []) == "tsm_resnet50-kinetics400"
