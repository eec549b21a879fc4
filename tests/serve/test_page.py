"""The page in Chromium: by file, keyboard and camera."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="smnet serve needs the extra serve")

from smnet.report.app import app_script, app_style
from smnet.serve.app import page_file
from tests.serve.conftest import Running
from tests.web.conftest import chromium, opened


def test_nothing_on_the_page_comes_from_elsewhere(served: Running) -> None:
    answer = served.ask("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for content in (page_file("index.html"), page_file("page.js"), app_script(), app_style()):
        assert "http://" not in content
        assert "https://" not in content
        assert "innerHTML" not in content
    assert "style=" not in page_file("index.html")
    assert served.ask("/style.css").headers["content-type"].startswith("text/css")


@pytest.fixture
def page(served: Running) -> Iterator[Any]:
    address = f"http://127.0.0.1:{served.port}/"
    with chromium() as browser, opened(browser, address) as made:
        yield made


@pytest.mark.slow
def test_the_page(page: Any, served: Running, film: Path) -> None:
    answer = served.ask("/v1/predict", ("film.mp4", film.read_bytes())).json
    page.set_input_files("#files", str(film))
    page.locator("#results .bars span").nth(2).wait_for()
    assert page.locator("#results .bars span").first.inner_text() == answer["results"][0]["label"]
    for button, shown in (("When does it happen?", ".moments button"), ("Why?", ".why canvas")):
        page.get_by_role("button", name=button).focus()
        page.keyboard.press("Enter")
        page.locator(shown).first.wait_for()
    page.locator("#camera").focus()
    page.keyboard.press("Enter")
    page.locator("#now span").first.wait_for()
    assert "frame by frame" in page.inner_text("#rate")
    page.keyboard.press("Enter")
    page.locator("#live").wait_for(state="hidden")
    wide = page.evaluate("() => document.documentElement.scrollWidth")
    assert wide <= 400  # nothing is cut off on a phone
