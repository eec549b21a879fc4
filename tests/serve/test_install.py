"""The steps of the Dockerfile in a new environment: a server without PyTorch that answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from smnet.inference.recognizer import Recognizer
from tests.serve.conftest import form

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(
    "SMNET_INSTALL" not in os.environ, reason="make test-install fetches packages from PyPI"
)
@pytest.mark.timeout(1800)
def test_a_server_installed_without_pytorch_answers(
    exported: Path, film: Path, tmp_path: Path
) -> None:
    expected = Recognizer.load(exported).predict(film).label
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["TMPDIR"] = str(tmp_path)
    folder = tmp_path / "smnet"
    script = ["sh", "tools/install_server.sh", str(folder)]
    subprocess.run(script, cwd=ROOT, env=environment, check=True)
    python = [str(folder / "bin/python"), "-c", "import torch"]
    assert subprocess.run(python, capture_output=True, check=False).returncode == 1
    server = subprocess.Popen(
        [str(folder / "bin/smnet"), "serve", str(exported), "--port", "0"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        address = ""
        while not address:
            line = server.stderr.readline()
            assert line, server.wait()
            at = line.find("http://127.0.0.1:")
            address = line[at:].split()[0].rstrip("/") if at >= 0 else ""
        body, kind = form([("film.mp4", film.read_bytes())])
        request = urllib.request.Request(
            f"{address}/v1/predict", body, {"Content-Type": kind}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            assert json.load(answer)["results"][0]["label"] == expected
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(90) == 0
