"""Answers of the server: equal to those of the other verbs, whatever else it is doing."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="smnet serve needs the extra serve")

from smnet.inference.pipeline import read_item
from smnet.inference.recognizer import Recognizer
from smnet.serve import workers
from smnet.timeline.curves import score_recording
from smnet.timeline.run import make_timeline, settings
from tests.serve.conftest import LIMITS, Running, form, running
from tests.videos import moving_frames, write_video

TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = moving_frames(12, 32, 32) * np.array([0.25, 0.25, 1.0])
    return write_video(tmp_path_factory.mktemp("clip") / "blue.mp4", frames.astype(np.uint8))


def test_labels_are_those_of_predict(served: Running, network: Path, clip: Path) -> None:
    expected = Recognizer.load(network, "cpu").predict(clip)
    answer = served.ask("/v1/predict?top=2", ("blue.mp4", clip.read_bytes()))
    assert answer.status == 200
    (result,) = answer.json["results"]
    assert (result["file"], result["label"], result["error"]) == ("blue.mp4", "blue", "")
    assert result["score"] == pytest.approx(expected.score, abs=1e-5)
    assert [one["label"] for one in result["top"]] == list(expected.labels[:2])
    assert answer.json["model"]["name"] == network.stem
    assert set(answer.json["seconds"]) == {"upload", "decode", "total"}
    assert list(served.service.folder.iterdir()) == []


def test_several_files_of_which_one_is_broken(served: Running, clip: Path) -> None:
    files = ("a.mp4", clip.read_bytes()), ("b.mp4", b"nothing"), ("a.mp4", clip.read_bytes())
    answer = served.ask("/v1/predict", *files)
    assert answer.status == 200
    labels = [result["label"] for result in answer.json["results"]]
    assert labels == ["blue", "", "blue"]
    assert answer.json["results"][1]["error"] == "b.mp4: is not a video but text"
    one = served.ask("/v1/predict", files[1])
    assert (one.status, one.json) == (422, {"error": "b.mp4: is not a video but text"})


def test_a_video_may_be_the_whole_body(served: Running, clip: Path) -> None:
    headers = {"Content-Type": "video/mp4"}
    answer = served.ask("/v1/predict", body=clip.read_bytes(), headers=headers)
    assert answer.json["results"][0]["label"] == "blue"
    assert (
        served.ask("/v1/predict", body=b"{}", headers={"Content-Type": "text/plain"}).status == 400
    )


def test_vectors_are_those_of_embed(served: Running, network: Path, clip: Path) -> None:
    expected = Recognizer.load(network, "cpu").embed(clip)
    answer = served.ask("/v1/embed", ("blue.mp4", clip.read_bytes()))
    assert answer.json["results"][0]["vector"] == pytest.approx(expected.tolist(), abs=1e-4)


def test_evidence_sums_to_the_logit(served: Running, clip: Path) -> None:
    answer = served.ask("/v1/explain", ("blue.mp4", clip.read_bytes())).json
    assert (answer["label"], answer["exact"]) == ("blue", True)
    assert sum(answer["curve"]) + answer["constant"] == pytest.approx(answer["logit"], abs=1e-4)
    assert np.shape(answer["maps"])[0] == len(answer["frames"]) == 2
    assert answer["frames"][0].startswith("data:image/jpeg;base64,")
    other = served.ask("/v1/explain?label=red", ("blue.mp4", clip.read_bytes())).json
    assert other["score"] < answer["score"]
    wrong = served.ask("/v1/explain?label=rad", ("blue.mp4", clip.read_bytes()))
    assert wrong.status == 422
    assert "did you mean 'red'" in wrong.json["error"]


def test_segments_are_those_of_timeline(served: Running, network: Path, film: Path) -> None:
    chosen = settings(Recognizer.load(network, "cpu").backend)
    curves = score_recording(
        chosen.backend, chosen.plan, str(film), chosen.window, chosen.every, batch=8
    )
    expected = make_timeline(curves, chosen.rule).summary()
    answer = served.ask("/v1/timeline", ("film.mp4", film.read_bytes())).json
    assert answer["file"] == "film.mp4"
    assert [s["label"] for s in answer["segments"]] == [s["label"] for s in expected["segments"]]
    for name, scores in expected["scores"].items():
        assert answer["scores"][name] == pytest.approx(scores, abs=1e-3)
    two = [("a.mp4", b"")] * 2
    assert served.ask("/v1/timeline", *two).status == 400


def test_eight_threads_and_two_models_get_the_answers_of_serial_requests(
    served: Running, clip: Path, film: Path
) -> None:
    models = [model.name for model in served.service.models]
    content = {"clip": clip.read_bytes(), "film": film.read_bytes()}
    requests = [(f"/v1/predict?top=3&model={m}", c) for m in models for c in content] * 6

    def ask(request: tuple[str, str]) -> Any:
        where, name = request
        (result,) = served.ask(where, (name, content[name])).json["results"]
        return {one["label"]: one["score"] for one in result["top"]}

    serial = [ask(request) for request in requests[:4]] * 6
    with ThreadPoolExecutor(8) as pool:
        for got, expected in zip(pool.map(ask, requests), serial, strict=True):
            assert got == pytest.approx(expected, abs=1e-5)


def test_what_is_said_about_the_server(served: Running) -> None:
    about = served.ask("/v1/models").json
    assert [model["steps"] for model in about["models"]] == [True, True]
    assert served.ask("/healthz").json == {"status": "ok"}
    assert served.ask("/readyz").json == {"status": "ready"}
    assert b"smnet_batch_videos_bucket" in served.ask("/metrics").body
    described = served.ask("/openapi.json").json
    assert {"/v1/predict", "/v1/timeline", "/v1/embed", "/v1/models"} <= set(described["paths"])
    schemas = described["components"]["schemas"]
    assert schemas["Predicted"]["properties"]["label"]["examples"]
    assert served.ask("/docs").status == 404  # loads scripts from elsewhere
    unknown = served.ask("/v1/predict?model=x", ("a.mp4", b""))
    assert unknown.status == 404
    assert served.service.models[0].name in unknown.json["error"]
    assert served.ask("/v1/predict?top=x", ("a.mp4", b"")).json["error"].startswith("top: ")


def test_other_sites_are_refused(served: Running) -> None:
    assert served.ask("/v1/models", headers={"Host": "evil.example"}).status == 403
    foreign = {"Origin": "https://evil.example"}
    assert served.ask("/v1/predict", ("a.mp4", b""), headers=foreign).status == 403
    own = {"Origin": f"http://127.0.0.1:{served.port}"}
    answer = served.ask("/v1/models", headers=own)
    assert answer.status == 200
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_a_token_is_needed(exported: Path, clip: Path) -> None:
    with running([exported], token=TOKEN, workers=1) as server:
        for path in ("/v1/models", "/metrics", "/openapi.json"):
            assert server.ask(path).status == 401
        wrong = {"Authorization": "Bearer 0123456789abcdeg"}
        assert server.ask("/v1/predict", ("a", b""), headers=wrong).status == 401
        assert server.ask("/").status == server.ask("/healthz").status == 200
        right = {"Authorization": f"Bearer {TOKEN}", "Host": "box.example"}
        answer = server.ask("/v1/predict", ("blue.mp4", clip.read_bytes()), headers=right)
        assert answer.json["results"][0]["label"] == "blue"
        assert server.ask("/v1/embed", ("a", b""), headers=right).status == 400  # no features


def test_the_report_of_an_evaluation(exported: Path, served: Running) -> None:
    assert served.ask("/v1/models").json["report"] is False
    assert served.ask("/v1/report", body=b"").status == 404
    with running([exported], token=TOKEN, workers=1, report="<p>mistakes</p>") as server:
        assert server.ask("/v1/report", body=b"").status == 401
        right = {"Authorization": f"Bearer {TOKEN}"}
        path = server.ask("/v1/report", body=b"", headers=right).json["path"]
        page = server.ask(path)  # a window of a browser sends no token
        assert page.body == b"<p>mistakes</p>"
        assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src")
        assert server.ask(f"{path}x").status == server.ask("/report/").status == 404


def test_the_folder_of_a_killed_server_is_removed_by_the_next(served: Running) -> None:
    # tests/test_files.py kills processes that hold such a folder.
    assert (served.service.folder.parent / ".lock").exists()


def test_addresses_below_an_allowed_prefix(exported: Path, clip: Path) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *words: Any) -> None:
            super().__init__(*words, directory=str(clip.parent))

        def log_message(self, *words: Any) -> None:
            pass

    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as files:
        threading.Thread(target=files.serve_forever, args=(0.05,), daemon=True).start()
        below = f"http://127.0.0.1:{files.server_address[1]}/"
        with running([exported], replace(LIMITS, addresses=(below,)), workers=1) as server:

            def ask(address: str) -> Any:
                return server.ask("/v1/predict", fields=[("address", address)])

            assert ask(f"{below}blue.mp4").json["results"][0]["label"] == "blue"
            assert ask(f"{below}none.mp4").status == 422
            for other in ("http://127.0.0.1:1/", "file:///etc/passwd", f"{below}../x", clip):
                assert ask(str(other)).status == 400
        files.shutdown()


def stubborn(backend: Any, plan: Any, item: Any) -> Any:
    """Reads videos, and hangs, waits for a file, dies or takes memory if the file says so."""
    content = Path(item.path).read_bytes()
    if content == b"hang":
        time.sleep(600)
    if content.startswith(b"wait "):
        while not Path(content[5:].decode()).exists():
            time.sleep(0.05)
    if content == b"crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if content == b"memory":
        np.empty(1 << 40, np.uint8)
    return read_item(backend, plan, item)


def test_videos_that_hang_or_crash_their_worker(
    exported: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "read_item", stubborn)
    limits = replace(LIMITS, memory=1 << 30)
    with running([exported], limits, workers=1) as server:
        for content, words, seconds in (
            (b"crash", "died (SIGKILL)", limits.timeout),
            (b"memory", "MemoryError", limits.timeout),
            (b"hang", "not done within 1 seconds", 1.0),
        ):
            server.service.workers._limits = replace(limits, timeout=seconds)
            answer = server.ask("/v1/predict", ("x.mp4", content))
            server.service.workers._limits = limits
            assert answer.status == 422
            assert answer.json["error"].startswith("x.mp4: ")
            assert words in answer.json["error"]
            good = server.ask("/v1/predict", ("blue.mp4", clip.read_bytes()))
            assert good.json["results"][0]["label"] == "blue"


def test_a_client_that_leaves_frees_its_worker(
    exported: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "read_item", stubborn)
    with running([exported], replace(LIMITS, timeout=600.0), workers=1) as server:
        body, kind = form([("x.mp4", b"hang")])
        connection = server.connect()
        connection.request("POST", "/v1/predict", body, {"Content-Type": kind})
        while not list(server.service.folder.iterdir()):
            time.sleep(0.02)
        connection.close()
        # The only worker would be busy for ten minutes.
        good = server.ask("/v1/predict", ("blue.mp4", clip.read_bytes()))
        assert good.json["results"][0]["label"] == "blue"
        assert b"smnet_clients_gone_total 1.0" in server.ask("/metrics").body


def test_more_requests_than_the_queue_takes_are_refused_at_once(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "read_item", stubborn)
    limits = replace(LIMITS, requests=2, timeout=600.0)
    wait = f"wait {tmp_path / 'go'}".encode()
    with running([exported], limits, workers=1) as server, ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(server.ask, "/v1/predict", ("x.mp4", wait)) for _ in range(2)]
        while server.service.metrics.waiting._value.get() < 2:
            time.sleep(0.02)
        refused = server.ask("/v1/predict", ("a.mp4", bytes(1 << 20)))
        assert not any(one.done() for one in slow)
        (tmp_path / "go").touch()
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert "busy" in refused.json["error"]
        assert [one.result().status for one in slow] == [422, 422]


def test_accepted_requests_are_answered_before_the_end(exported: Path, film: Path) -> None:
    with running([exported], workers=1) as server, ThreadPoolExecutor(8) as pool:
        content = film.read_bytes()
        asked = [pool.submit(server.ask, "/v1/predict", ("f.mp4", content)) for _ in range(8)]
        while server.service.metrics.waiting._value.get() < 8 and not all(a.done() for a in asked):
            time.sleep(0.005)
        server.server.should_exit = True
        assert [one.result().status for one in asked] == [200] * 8
        server.thread.join(120)
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", server.port), 2).close()
