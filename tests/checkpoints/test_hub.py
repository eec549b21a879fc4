"""The hub: upload and download of one file, and one clear line where there is no network."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub import constants
from typer.testing import CliRunner

import smnet
from smnet.checkpoints import hub
from smnet.checkpoints.card import model_card
from smnet.checkpoints.file import Checkpoint, read_checkpoint, save_checkpoint
from smnet.cli.main import app
from smnet.errors import UserError
from smnet.models import ModelSpec, build_model, create_model
from smnet.training.start_weights import start_from

torch.set_num_threads(1)

CLASSES = ("Pushing", "Pulling | lifting", "Opening <b>")


def point_to(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Set the endpoint, which the library reads from HF_ENDPOINT at import."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees this machine's cache, token or settings."""
    for name in ("HF_HUB_OFFLINE", "HF_HUB_ETAG_TIMEOUT", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    point_to(monkeypatch, "http://127.0.0.1:9")  # no server listens there


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    spec = ModelSpec("tsm_resnet18", 3, 2, {"width": 8}, class_names=CLASSES)
    return Checkpoint(spec, build_model(spec).state_dict(), {"epochs": 3}, {"top1": 0.5})


@pytest.fixture
def file(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "best.safetensors", checkpoint)
    return tmp_path / "best.safetensors"


def serve(content: bytes, asked: list[str]) -> ThreadingHTTPServer:
    """A hub with the repository owner/name, which holds ``content``."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            asked.append(f"{self.command} {self.path}")
            found = self.path.startswith("/owner/name/resolve/main/model.safetensors")
            self.send_response(200 if found else 404)
            if found:
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", "a" * 40)
            elif self.path.startswith("/owner/name/resolve"):
                self.send_header("X-Error-Code", "RevisionNotFound")
            elif self.path.startswith("/owner/empty"):
                self.send_header("X-Error-Code", "EntryNotFound")
            else:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", str(len(content) if found else 0))
            self.end_headers()
            if body and found:
                self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def served(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    asked: list[str] = []
    server = serve(file.read_bytes(), asked)
    point_to(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    yield asked
    server.shutdown()
    server.server_close()


def refusal(call: Callable[[], object]) -> str:
    start = time.monotonic()
    with pytest.raises(UserError) as caught:
        call()
    assert time.monotonic() - start < 10, "the hub blocks"
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- down ------------------------------------------------------------------------------------


def test_a_repository_opens_as_its_checkpoint(
    served: list[str], checkpoint: Checkpoint, tmp_path: Path
) -> None:
    found = read_checkpoint("hf://owner/name")
    assert found.spec == checkpoint.spec
    assert (found.recipe, found.metrics) == (checkpoint.recipe, checkpoint.metrics)
    assert found.tensors.keys() == checkpoint.tensors.keys()
    assert all(torch.equal(found.tensors[k], v) for k, v in checkpoint.tensors.items())
    assert (tmp_path / "cache").is_dir()
    assert smnet.Recognizer.load("hf://owner/name", "cpu").classes == CLASSES
    assert smnet.load("hf://owner/name").spec == checkpoint.spec
    model = create_model("tsm_resnet18", 7, width=8)
    assert "tsm_resnet18 from hf://owner/name" in start_from(model, "hf://owner/name")
    assert torch.equal(model.state_dict()["conv1.weight"], checkpoint.tensors["conv1.weight"])
    assert sum(line.startswith("GET /owner/name/resolve") for line in served) == 1  # then cached


def test_refusals_of_the_hub(served: list[str]) -> None:
    said = refusal(lambda: read_checkpoint("hf://owner/other"))
    assert said.startswith("hf://owner/other: no such repository")
    assert "no such revision" in refusal(lambda: hub.pull("hf://owner/name@v2"))
    assert "holds no checkpoint of smnet" in refusal(lambda: hub.pull("hf://owner/empty"))


def test_a_file_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(b"<html>not a checkpoint</html>", [])
    point_to(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    assert "not a checkpoint" in refusal(lambda: read_checkpoint("hf://owner/name"))
    server.shutdown()
    server.server_close()


def test_a_file_over_the_limit_is_not_downloaded(
    served: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "MAX_BYTES", 1000)
    assert "over the limit" in refusal(lambda: hub.pull("hf://owner/name"))
    assert not any(line.startswith("GET") for line in served)


@pytest.mark.parametrize(
    "address", ["hf://name", "hf://a/b/c", "hf://", "hf://a b/c", "hf://a/b@x y", "hf://../b"]
)
def test_bad_addresses(address: str) -> None:
    assert "of the hub as hf://owner/name" in refusal(lambda: read_checkpoint(address))


def test_without_a_network_one_line_at_once() -> None:
    said = refusal(lambda: smnet.Recognizer.load("hf://owner/name"))
    assert said.startswith("hf://owner/name: the hub cannot be reached")
    assert "not in the cache" in said
    result = CliRunner().invoke(app, ["predict", "hf://owner/name", __file__])
    assert isinstance(result.exception, UserError)


def test_a_hub_that_never_answers_does_not_block(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        point_to(monkeypatch, f"http://127.0.0.1:{deaf.getsockname()[1]}")
        monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "0.3")
        said = refusal(lambda: hub.pull("hf://owner/name"))
    assert "hub" in said
    assert "not in the cache" in said


def test_a_host_look_up_that_hangs_does_not_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """No timeout of the library covers the name server's."""
    monkeypatch.setattr(
        huggingface_hub, "get_hf_file_metadata", lambda *a, **k: time.sleep(20), raising=True
    )
    monkeypatch.setattr(hub, "TIME_LIMIT", 0.2)
    assert "did not answer within 0.2 s" in refusal(lambda: hub.pull("hf://owner/name"))


def test_the_cached_copy_serves_without_a_network(
    served: list[str],
    checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub.pull("hf://owner/name")
    point_to(monkeypatch, "http://127.0.0.1:9")
    assert read_checkpoint("hf://owner/name").spec == checkpoint.spec
    assert "the cached file is used" in caplog.text
    caplog.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert read_checkpoint("hf://owner/name").spec == checkpoint.spec
    assert not caplog.text  # as asked for


def test_offline_mode_sends_nothing(served: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in refusal(lambda: hub.pull("hf://owner/name"))
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    said = refusal(lambda: hub.push(Path(__file__), "card", "owner/name"))
    assert said == "cannot push: HF_HUB_OFFLINE is set"
    assert served == []


# --- up --------------------------------------------------------------------------------------


class Recorder:
    """In the place of the library's HfApi."""

    calls: list[tuple[str, Any]]
    has_card = False
    exists = False

    def __init__(self, **options: Any) -> None:
        pass

    def whoami(self) -> dict[str, str]:
        return {"name": "owner"}

    def create_repo(self, repo: str, **options: Any) -> str:
        self.calls.append(("create", (repo, options)))
        return f"https://huggingface.co/{repo}"

    def repo_exists(self, repo: str, **options: Any) -> bool:
        return self.exists

    def file_exists(self, repo: str, name: str, **options: Any) -> bool:
        return self.has_card

    def create_commit(
        self, repo: str, files: list[Any], commit_message: str, **options: Any
    ) -> None:
        self.calls.append(("commit", {f.path_in_repo: f.path_or_fileobj for f in files}))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    made: list[tuple[str, Any]] = []
    monkeypatch.setattr(Recorder, "calls", made, raising=False)
    monkeypatch.setattr(huggingface_hub, "HfApi", Recorder)
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    return made


@pytest.mark.parametrize("repo", ["owner/name", "hf://owner/name"])
def test_push_sends_file_and_card_in_one_commit(
    repo: str, file: Path, calls: list[tuple[str, Any]]
) -> None:
    result = CliRunner().invoke(app, ["push", str(file.parent), repo, "--private"])
    assert result.exit_code == 0, result.exception
    assert result.output == "https://huggingface.co/owner/name\n"
    (_, created), (_, sent) = calls
    assert created == ("owner/name", {"private": True, "exist_ok": True})
    assert sent.keys() == {"model.safetensors", "README.md"}
    assert Path(sent["model.safetensors"]) == file
    assert sent["README.md"].startswith(b"---\nlibrary_name: smnet\n")


def test_a_card_that_is_there_stays(
    file: Path, calls: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recorder, "has_card", True)
    hub.push(file, "card", "owner/name")
    assert calls[-1][1].keys() == {"model.safetensors"}


def test_push_with_the_exported_network(
    file: Path, calls: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    export = pytest.importorskip("smnet.export.export")

    def write(checkpoint: str, out: Path, **options: Any) -> SimpleNamespace:
        out.write_bytes(b"onnx")
        return SimpleNamespace(path=out)

    monkeypatch.setattr(export, "export", write)
    result = CliRunner().invoke(app, ["push", str(file), "owner/name", "--onnx"])
    assert result.exit_code == 0, result.exception
    sent = calls[-1][1]
    assert sent.keys() == {"model.safetensors", "onnx/model.onnx", "README.md"}
    assert b"smnet predict model.onnx clip.mp4" in sent["README.md"]


@pytest.mark.parametrize(("exists", "has_card"), [(False, True), (True, False), (True, True)])
def test_push_of_a_page_is_a_static_space(
    file: Path,
    calls: list[tuple[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    exists: bool,
    has_card: bool,
) -> None:
    """The card of a space that was there before is kept."""
    site = pytest.importorskip("smnet.web.site")

    def write(checkpoint: str, out: Path, **options: Any) -> SimpleNamespace:
        (out / "engine").mkdir(parents=True)
        for name in ("index.html", "model.onnx", "engine/ort.js"):
            (out / name).write_text(name)
        return SimpleNamespace(folder=out)

    monkeypatch.setattr(site, "write_site", write)
    monkeypatch.setattr(Recorder, "exists", exists)
    monkeypatch.setattr(Recorder, "has_card", has_card)
    result = CliRunner().invoke(app, ["push", str(file), "owner/try", "--web"])
    assert result.exit_code == 0, result.exception
    (_, created), (_, sent) = calls
    assert created[1]["repo_type"] == "space"
    assert created[1]["space_sdk"] == "static"
    kept = exists and has_card
    names = {"index.html", "model.onnx", "engine/ort.js", *([] if kept else ["README.md"])}
    assert sent.keys() == names
    if not kept:
        front = yaml.safe_load(sent["README.md"].decode().split("---")[1])
        assert (front["sdk"], front["app_file"], front["title"]) == ("static", "index.html", "try")
        assert front["custom_headers"]["cross-origin-opener-policy"] == "same-origin"


def test_push_without_token_or_network(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no token of the hub; set HF_TOKEN" in refusal(
        lambda: hub.push(file, "card", "owner/name")
    )
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    said = refusal(lambda: hub.push(file, "card", "owner/name"))
    assert said.startswith("cannot push to owner/name: the hub cannot be reached")
    assert "main branch" in refusal(lambda: hub.push(file, "card", "owner/name@v2"))
    assert "of the hub as" in refusal(lambda: hub.push(file, "card", "name"))


# --- the card --------------------------------------------------------------------------------


def test_the_card_has_what_the_checkpoint_says(checkpoint: Checkpoint) -> None:
    card = model_card(checkpoint, "owner/name")
    for said in (
        "| segments | 2 |",
        "tsm\\_resnet18",
        "| top1 | 0.5 |",
        "| epochs | 3 |",
        "smnet predict hf://owner/name clip.mp4",
        "    1 Pulling | lifting\n",
    ):
        assert said in card
    nameless = Checkpoint(ModelSpec("tsn_resnet18", 3), {})
    bare = model_card(nameless, "owner/name")
    assert "no class names" in bare
    assert "## Results" not in bare


def test_the_front_matter_is_what_the_hub_reads(checkpoint: Checkpoint) -> None:
    recipe = {"data": "/home/me/My clips: part 2"}
    trained = Checkpoint(checkpoint.spec, {}, recipe, {"top1": 0.75, "clips": 40})
    front = yaml.safe_load(model_card(trained, "owner/name").split("---")[1])
    assert front["pipeline_tag"] == "video-classification"
    assert front["library_name"] == "smnet"
    (model,) = front["model-index"]
    (result,) = model["results"]
    assert model["name"] == "name"
    assert result["task"]["type"] == "video-classification"
    assert result["dataset"]["type"] == "my-clips-part-2"
    assert result["dataset"]["name"] == "My clips: part 2"
    (metric,) = result["metrics"]
    assert (metric["type"], metric["value"]) == ("accuracy", 0.75)
    bare = yaml.safe_load(model_card(Checkpoint(trained.spec, {}), "owner/name").split("---")[1])
    assert "model-index" not in bare


def test_names_from_elsewhere_are_no_markup_in_the_card() -> None:
    spec = ModelSpec("tsn_resnet18", 2, class_names=("a\n\n# head\n---", "b"))
    card = model_card(Checkpoint(spec, {}, {}, {"x": "<img src=y> | `z`\n# t"}), "owner/name")
    assert "\n# head" not in card
    assert "<img" not in card
    assert "\\| \\`z\\` # t |" in card
