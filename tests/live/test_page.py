"""The live page: what it serves, and to whom."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator

import av
import pytest

from smnet.live.events import Event
from smnet.live.page import Page
from smnet.live.watch import Answer
from tests.videos import moving_frames


@pytest.fixture
def page() -> Iterator[Page]:
    made = Page("camera <1>")
    yield made
    made.close()


def get(page: Page, path: str, host: str | None = None) -> tuple[int, bytes]:
    port = int(page.address.rsplit(":", 1)[1].strip("/"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def test_the_page_its_state_and_its_picture(page: Page) -> None:
    assert get(page, "/picture")[0] == 404  # before the first frame
    page.frame(av.VideoFrame.from_ndarray(moving_frames(1)[0], format="rgb24"), 0.0)
    event = Event("start", "x-1", "rising", 1.0, None, 0.9, 0.9)
    page.show(Answer(2.0, 1.5, ("rising",), (0.9,), 0.02, (event,)), dropped=3)
    status, body = get(page, "/")
    assert status == 200
    assert b"http://www.w3.org/2000/svg" in body
    assert body.count(b"http://") == 1  # nothing from elsewhere
    assert b"https://" not in body
    state = json.loads(get(page, "/state")[1])
    assert state["title"] == "camera <1>"
    assert state["now"]["dropped"] == 3
    assert state["events"][0]["label"] == "rising"
    assert state["points"] == [{"t": 1.5, "scores": {"rising": 0.9}}]
    status, picture = get(page, "/picture?1")
    assert picture.startswith(b"\xff\xd8")


def test_what_is_kept_is_bounded(page: Page) -> None:
    for number in range(4000):
        done = Event("end", f"x-{number}", "rising", number, number + 0.5, 0.0, 0.9)
        page.show(Answer(number, number, ("rising",), (0.9,), 0.0, (done,)), dropped=0)
    state = page.state()
    assert len(state["points"]) <= 720
    assert len(state["events"]) <= 181


def test_other_hosts_and_paths_are_refused(page: Page) -> None:
    assert get(page, "/", host="evil.example")[0] == 403
    assert get(page, "/etc/passwd")[0] == 404
