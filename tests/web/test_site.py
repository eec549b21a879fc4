"""The folder of ``smnet export --to web``: what is in it, and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smnet.checkpoints.file import Checkpoint, read_checkpoint, save_checkpoint
from smnet.errors import UserError
from smnet.inference.streams import open_stream
from smnet.web import runtime, site
from tests.conftest import Called
from tests.web.conftest import by_hand, static


def package(content: bytes = b"engine") -> bytes:
    """An npm package with the files that a page needs."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name in (*runtime.FILES, "ort.all.js"):
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a registry's files; the cache is empty."""
    content = package()
    monkeypatch.setenv("SMNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(runtime, "SHA256", hashlib.sha256(content).hexdigest())
    folder = tmp_path / "registry" / "onnxruntime-web" / "-"
    folder.mkdir(parents=True)
    (folder / f"onnxruntime-web-{runtime.VERSION}.tgz").write_bytes(content)
    return tmp_path / "registry"


def test_the_engine_is_fetched_once(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with static(registry) as address:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", address)
        first = runtime.runtime_files()
    assert first == runtime.runtime_files()  # the registry is gone
    assert first["ort.wasm.bundle.min.js"] == b"engine"
    assert set(first) == {"LICENSE", *runtime.FILES.values()}
    assert b"Copyright (c) Microsoft" in first["LICENSE"]


def test_without_a_network_one_line_says_where_to_put_the_file(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")
    with pytest.raises(UserError) as caught:
        runtime.runtime_files()
    where = tmp_path / "cache" / "web" / f"onnxruntime-web-{runtime.VERSION}.tgz"
    assert str(caught.value).endswith(f"put the file at {where}")
    assert "\n" not in str(caught.value)
    where.write_bytes(package(b"another"))
    with pytest.raises(UserError, match="is damaged or another file"):
        runtime.runtime_files()
    where.write_bytes(package())
    assert runtime.runtime_files()["ort-wasm-simd-threaded.wasm"] == b"engine"


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "runtime_files", lambda: {"ort.js": b"engine"})


def test_a_folder(
    sites: dict[str, Path],
    causal: Path,
    tmp_path: Path,
    engine: None,
    monkeypatch: pytest.MonkeyPatch,
    smnet: Callable[..., Called],
) -> None:
    out = shutil.copytree(sites["causal"], tmp_path / "site")
    spec = read_checkpoint(causal).spec
    about = json.loads((out / "model.json").read_text())
    network = (out / "model.onnx").read_bytes()
    assert about["bytes"] == len(network)
    assert about["sha256"] == hashlib.sha256(network).hexdigest()
    assert about["classes"] == list(spec.class_names or ())
    assert (about["rate"], about["cameraRate"], about["size"]) == (5.0, 5.0, 32)
    stream: Any = open_stream(out / "model.onnx", "cpu")
    assert {k: tuple(v) for k, v in about["state"].items()} == stream.states
    assert json.loads((sites["windows"] / "model.json").read_text())["state"] is None
    texts = [path for path in out.iterdir() if path.suffix in (".js", ".css", ".html", ".json")]
    assert len(texts) == 12
    for path in texts:
        text = path.read_text()
        assert "http://" not in text, path
        assert "https://" not in text, path
        assert "innerHTML" not in text

    monkeypatch.setattr(site, "export", by_hand)
    (out / "notes.txt").write_text("mine")
    called = smnet("export", causal, "--to", "web", "--out", out)  # over an own folder
    assert called.status == 0, called.err
    assert f"python -m http.server -b 127.0.0.1 -d {out}" in called.out
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / runtime.FOLDER / "ort.js").read_bytes() == b"engine"
    assert json.loads((out / "model.json").read_text()) == about


def test_what_is_refused(
    engine: None,
    two_sided: Path,
    tmp_path: Path,
    smnet: Callable[..., Called],
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "index.html").write_text("<p>my page</p>")
    checkpoint = read_checkpoint(two_sided)
    twice = tmp_path / "twice.safetensors"
    chance = replace(checkpoint.spec, rate=None, sampling="tsn-random")
    save_checkpoint(twice, Checkpoint(chance, checkpoint.tensors))
    for words, message in (
        ((two_sided, "--out", own), "index.html exists and was not written by smnet"),
        ((two_sided, "--out", two_sided), "writes a folder, and this is a file"),
        ((two_sided, "--precision", "int8"), "--to web has fp32"),
        ((two_sided, "--stream"), "--stream: leave it out"),
        ((two_sided, "--features"), "--features: leave it out"),
        ((twice,), "this checkpoint samples by 'tsn-random'"),
        (("motion",), "give the folder to write with --out"),
    ):
        called = smnet("export", *words, "--to", "web")
        assert called.status == 1
        assert message in called.err
        assert called.err.count("\n") == 1
    assert (own / "index.html").read_text() == "<p>my page</p>"
