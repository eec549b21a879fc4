"""``smnet label``: the table, the server, the clips that are asked for."""

from __future__ import annotations

import csv
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smnet.adapt.inbox import choose_clips
from smnet.adapt.labelling import LabelServer, LabelTable
from smnet.data.annotations.read import read_clips
from smnet.errors import UserError
from smnet.report.label_page import label_page
from tests.conftest import CLASSES, Called

Smnet = Callable[..., Called]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LabelServer]:
    table = LabelTable(tmp_path / "labels.csv")
    page = label_page(["a.mp4", "b.mp4"], ["x", "</script>"], [[], [("x", 0.5)]])
    videos: dict[str, bytes | None] = {"/in/a.mp4": b"film", "/in/b.mp4": None}
    with LabelServer(page, list(videos), videos.__getitem__, table) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(
    server: LabelServer,
    method: str,
    where: str,
    body: Any = None,
    token: str | None = None,
    **head: str,
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    text = None if body is None else body if isinstance(body, str) else json.dumps(body)
    connection.request(method, f"/{token or server.token}/{where}", text, head)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_the_page_and_its_clips(server: LabelServer) -> None:
    status, page = ask(server, "GET", "")
    assert status == 200
    assert page.count(b"</script>") == 1  # a class cannot end the script
    assert ask(server, "GET", "clip/0") == (200, b"film")
    assert [ask(server, "GET", where)[0] for where in ("clip/1", "clip/2", "other")] == [404] * 3


def test_labels_are_written_at_once(server: LabelServer) -> None:
    file = server.table.path
    assert ask(server, "POST", "label", {"clip": 1, "label": " x "})[0] == 200
    assert list(csv.reader(file.open())) == [["path", "label"], ["/in/b.mp4", "x"]]
    assert ask(server, "POST", "label", {"clip": 0, "label": "跳, ぶ"})[0] == 200
    assert LabelTable(file).rows == {"/in/b.mp4": "x", "/in/a.mp4": "跳, ぶ"}
    assert ask(server, "POST", "label", {"clip": 1, "label": None})[0] == 200
    assert LabelTable(file).rows == {"/in/a.mp4": "跳, ぶ"}


@pytest.mark.parametrize(
    "body",
    [{"clip": 2, "label": "x"}, {"clip": True, "label": "x"}, {"clip": 0, "label": " "}, "{", []],
)
def test_other_answers_are_refused(server: LabelServer, body: Any) -> None:
    assert ask(server, "POST", "label", body)[0] == 400
    assert not server.table.path.exists()


def test_nobody_else_is_answered(server: LabelServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert ask(server, "GET", "", token="guess")[0] == 404
    assert ask(server, "POST", "label", {"clip": 0, "label": "x"}, token="guess")[0] == 404
    assert ask(server, "GET", "", Host="evil.example")[0] == 403


def test_another_table_is_not_replaced(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("name,age\nann,3\n")
    with pytest.raises(UserError, match="its columns are name, age"):
        LabelTable(file)


def test_a_port_in_use(server: LabelServer) -> None:
    with pytest.raises(UserError, match=f"--port {server.server_port}"):
        LabelServer("", [], lambda path: None, server.table, server.server_port)


def test_what_is_asked(run: Path, few: Path, tmp_path: Path) -> None:
    videos = sorted(map(str, few.glob("train/*/*.mp4")))
    table = LabelTable(tmp_path / "labels.csv")
    words = (str(run), videos, table, 6)
    asked = choose_clips(*words, None, tmp_path / "f.npz", "cpu", 0)
    assert asked.classes == list(CLASSES)
    assert len(set(asked.clips)) == 6
    assert all(len(guess) == 3 for guess in asked.guesses)
    for clip in asked.clips:
        table.set(clip, Path(clip).parent.name)
    again = choose_clips(*words, ["jump"], tmp_path / "f.npz", "cpu", 0)
    assert not set(again.clips) & set(asked.clips)
    assert again.classes == ["jump", *dict.fromkeys(table.rows.values())]
    assert len(read_clips(str(tmp_path / "labels.csv")).classes) == len(set(table.rows.values()))


def test_all_clips_have_a_label(smnet: Smnet, run: Path, few: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    clip = next((few / "val" / "rising").iterdir())
    LabelTable(out).set(str(clip), "rising")
    called = smnet("label", clip, "--from", run, "--out", out, "--workers", 0, "--device", "cpu")
    assert called.status == 0, called.err
    assert called.out == f"all 1 clips have a label: {out}\n"
