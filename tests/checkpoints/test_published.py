"""Networks by name: one ships, the others are fetched once from a server on this machine."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from smnet.checkpoints import download
from smnet.checkpoints import published as known
from smnet.checkpoints.file import read_checkpoint
from smnet.checkpoints.header import checkpoint_file, is_path, read_header
from smnet.checkpoints.name_hints import NameHints
from smnet.cli.main import app
from smnet.errors import UserError
from smnet.models import create_model, list_models
from smnet.training.start_weights import start_from
from tests import published

NAME = "tsm_resnet50-kinetics400"


class Server(ThreadingHTTPServer):
    """Serves one file at every path. ``breaks`` is the number of answers that break off half-way,
    ``ranges`` whether it understands Range, ``refuse`` a status in place of the file."""

    content = b""
    breaks = 0
    ranges = True
    refuse = 0
    requests: list[str]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range", "")
        server.requests.append(f"{self.path} {wanted}".strip())
        if server.refuse:
            self.send_error(server.refuse)
            return
        begin = int(re.sub(r"\D", "", wanted) or 0) if server.ranges else 0
        if begin >= len(server.content):
            self.send_error(416)
            return
        body = server.content[begin:]
        self.send_response(206 if begin else 200)
        if begin:
            end = len(server.content)
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{end}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.breaks:
            server.breaks -= 1
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.requests = []
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(known, "HOST", server.address)
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    monkeypatch.setenv("SMNET_CACHE", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of MMAction2's layout for TSM on Kinetics-400, narrow."""
    path = tmp_path_factory.mktemp("mmaction2") / "tsm.pth"
    state = published.mmaction2(50, 8, classes=400, shift=True)
    torch.save({"meta": {"epoch": 100, "dataset_type": "VideoDataset"}, "state_dict": state}, path)
    return path


@pytest.fixture
def offered(server: Server, file: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server offers that file under the name of a published network."""
    server.content = file.read_bytes()
    digest = hashlib.sha256(server.content).hexdigest()[:8]
    table = {NAME: replace(known.published()[NAME], sha256=digest)}
    monkeypatch.setattr(known, "published", lambda: table)
    return server


def cache() -> Path:
    return Path(os.environ["SMNET_CACHE"]) / "weights"


def test_a_published_network_is_fetched_once_and_converted(offered: Server, file: Path) -> None:
    path = checkpoint_file(NAME)
    assert path == cache() / f"{NAME}.safetensors"
    checkpoint = read_checkpoint(NAME)
    assert checkpoint_file(NAME) == path
    assert len(offered.requests) == 1
    spec = checkpoint.spec
    assert (spec.name, spec.num_segments, spec.sampling) == ("tsm_resnet50", 8, "mmaction2")
    assert spec.class_names is not None
    assert (spec.class_names[0], spec.class_names[399]) == ("abseiling", "zumba")
    assert checkpoint.recipe["expected"]["top1"] == pytest.approx(0.7322)
    state = torch.load(file, weights_only=True)["state_dict"]
    torch.testing.assert_close(
        checkpoint.tensors["conv1.weight"], state["backbone.conv1.conv.weight"]
    )
    assert sorted(p.name for p in cache().iterdir()) == [f"{NAME}.lock", f"{NAME}.safetensors"]


def test_a_broken_transfer_is_resumed(offered: Server) -> None:
    offered.breaks = 2
    checkpoint_file(NAME)
    ranges = [request.partition(" ")[2] for request in offered.requests]
    half = len(offered.content) // 2
    assert ranges[:2] == ["", f"bytes={half}-"]
    assert len(ranges) == 3


def test_a_server_without_ranges_sends_the_whole_file_again(offered: Server) -> None:
    offered.breaks, offered.ranges = 1, False
    checkpoint_file(NAME)
    assert len(offered.requests) == 2


def test_the_rest_of_an_earlier_process_is_requested(offered: Server) -> None:
    original = cache() / Path(known.published()[NAME].file).name
    original.parent.mkdir(parents=True)
    original.with_name(original.name + ".part").write_bytes(offered.content[:1000])
    checkpoint_file(NAME)
    assert offered.requests[0].endswith("bytes=1000-")


def test_another_file_is_refused(offered: Server) -> None:
    offered.content = offered.content[:-1] + b"x"
    with pytest.raises(UserError, match="sent another file") as error:
        checkpoint_file(NAME)
    assert str(cache()) in str(error.value)
    assert [p.name for p in cache().iterdir()] == [f"{NAME}.lock"]


def test_a_file_that_is_too_large_is_refused(
    offered: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "MAX_BYTES", 1000)
    with pytest.raises(UserError, match="over the limit"):
        checkpoint_file(NAME)
    assert not (cache() / f"{NAME}.safetensors").exists()


@pytest.mark.parametrize("case", ["offline", "refused"])
def test_without_the_server_the_message_names_file_and_folder(
    offered: Server, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    if case == "offline":
        monkeypatch.setattr(known, "HOST", "http://127.0.0.1:9/")  # no server listens there
    offered.refuse = 404
    with pytest.raises(UserError) as error:
        checkpoint_file(NAME)
    message = str(error.value)
    network = known.published()[NAME]
    assert network.address in message
    assert message.endswith(f"put the file at {cache() / Path(network.file).name}")
    assert "\n" not in message


def test_a_busy_server_is_asked_again(offered: Server) -> None:
    offered.refuse = 503
    with pytest.raises(UserError, match="503 Service Unavailable"):
        checkpoint_file(NAME)
    assert len(offered.requests) == download.ATTEMPTS


def test_a_part_longer_than_the_file_is_fetched_again(offered: Server) -> None:
    original = cache() / Path(known.published()[NAME].file).name
    original.parent.mkdir(parents=True)
    original.with_name(original.name + ".part").write_bytes(offered.content + b"more")
    checkpoint_file(NAME)
    assert len(offered.requests) == 2


def test_a_file_put_there_by_hand_is_converted_and_kept(offered: Server, file: Path) -> None:
    offered.refuse = 404
    original = cache() / Path(known.published()[NAME].file).name
    original.parent.mkdir(parents=True)
    original.write_bytes(b"something else")
    with pytest.raises(UserError, match="damaged or another file"):
        checkpoint_file(NAME)
    original.write_bytes(file.read_bytes())
    assert read_header(NAME).spec.num_classes == 400
    assert original.is_file()


def fetch_in_process(host: str, digest: str, folder: str, results: multiprocessing.Queue) -> None:
    os.environ["SMNET_CACHE"] = folder
    known.HOST = host
    table = {NAME: replace(known.published()[NAME], sha256=digest)}
    known.published = lambda: table
    results.put(str(checkpoint_file(NAME)))


def test_two_processes_at_once_fetch_once(offered: Server) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    arguments = (known.HOST, known.published()[NAME].sha256, os.environ["SMNET_CACHE"], results)
    processes = [context.Process(target=fetch_in_process, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    assert {results.get(timeout=60) for _ in processes} == {str(cache() / f"{NAME}.safetensors")}
    for process in processes:
        process.join()
    assert len(offered.requests) == 1


def test_training_starts_from_a_published_name(offered: Server) -> None:
    model = create_model("tsm_resnet50", 3, width=8)
    assert start_from(model, NAME) == (f"weights: tsm_resnet50 from {NAME}; the classifier is new")


def test_a_mistyped_name_is_recognised() -> None:
    with pytest.raises(UserError, match=r"no such checkpoint; did you mean tsm_resnet50-kinetics"):
        checkpoint_file("tsm_resnet50-kinetics")


def test_a_path_of_the_same_name_is_reached(tmp_path: Path) -> None:
    assert not is_path("motion")
    assert is_path("./motion")
    assert is_path(tmp_path / "motion")


# --- the table ---------------------------------------------------------------------------------

MAKERS: dict[str, Callable[[int], published.State]] = {
    "tsn": lambda k: published.mmaction2(50, classes=k, device="meta"),
    "tsm": lambda k: published.mmaction2(50, classes=k, shift=True, device="meta"),
    "tam": lambda k: published.mmaction2(50, classes=k, tanet=8, device="meta"),
    "slow": lambda k: published.mmaction2_3d(published.SLOW, 64, classes=k, device="meta"),
    "i3d": lambda k: published.mmaction2_3d(published.I3D, 64, classes=k, device="meta"),
}


def test_every_row_of_the_table_is_sound() -> None:
    rows = known.published()
    assert len(rows) == 28
    assert len({row.sha256 for row in rows.values()}) == 28
    for name, row in rows.items():
        assert row.name == name
        assert row.model in list_models()
        assert row.dataset in known.DATASETS
        assert re.fullmatch(r"[0-9a-f]{8}", row.sha256)
        assert row.file.endswith(f"-{row.sha256}.pth")
        assert row.top1 < row.top5 < 100
        # The converter learns the number of frames from the name of the file.
        assert NameHints.of(Path(row.file)).segments == row.frames, name
        assert ("dense" in row.sampling) <= NameHints.of(Path(row.file)).dense


def test_class_names_are_in_index_order() -> None:
    for dataset, count in (("kinetics400", 400), ("somethingv2", 174)):
        names = (known.NETWORKS / f"{dataset}.txt").read_text(encoding="utf-8").splitlines()
        assert len(set(names)) == count
        assert names == sorted(names)


@pytest.mark.parametrize("family", MAKERS)
def test_the_published_number_of_parameters_is_near_that_of_the_layout(family: str) -> None:
    """Some published numbers are those of the same network with fewer classes."""
    row = known.published()[f"{family}_resnet50-kinetics400"]
    state = MAKERS[family](400)
    number = sum(
        tensor.numel()
        for key, tensor in state.items()
        if not re.search(r"running_|num_batches", key)
    )
    published_number = float(row.params.removesuffix("M"))
    assert number / 1e6 == pytest.approx(published_number, abs=0.8)


# --- the verb ----------------------------------------------------------------------------------


def test_the_verb_lists_names_and_what_is_here(offered: Server) -> None:
    checkpoint_file(NAME)
    done = CliRunner().invoke(app, ["weights"])
    assert done.exit_code == 0
    lines = {line.split()[0]: line for line in done.output.splitlines()}
    assert lines["motion"].split()[-1] == "ships"
    assert lines[NAME].split()[-1] == "yes"
    assert "73.22" in lines[NAME]


def test_the_verb_refuses_a_pattern_without_a_match() -> None:
    done = CliRunner().invoke(app, ["weights", "resnext*"])
    assert isinstance(done.exception, UserError)
