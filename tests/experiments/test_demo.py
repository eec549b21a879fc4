"""The demo's parts, on a data set of a few clips, and its page."""

from __future__ import annotations

import base64
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from smnet.data.synthetic.motion import MOTION_CLASSES
from smnet.evaluation.results import Evaluation
from smnet.experiments import demo
from smnet.inference.recognizer import Prediction
from smnet.recipes.recipe import Recipe, read_recipe
from smnet.report.page import Sample, Trained, report_page

CLASSES = ("a <b> & c", "'d' \"e\"")


def result(scores: list[list[float]]) -> Evaluation:
    return Evaluation(
        np.array(scores, dtype=np.float32),
        np.array([0, 0, 1, 1]),
        CLASSES,
        ("1", "2", "3", "4"),
        "1x1",
    )


SMNET = Trained(
    "smnet_resnet18",
    result([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]]),
    [(1, 1.5, 0.25), (2, 1.0, 0.75), (3, 0.5, 1.0)],
    {"parameters": "1.00 M", "training": "10 s"},
)
TSN = Trained(
    "<tsn>",
    result([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]]),
    [(1, 1.6, 0.5)],
    {"parameters": "0.90 M", "training": "9 s"},
)


class Strict(HTMLParser):
    """Every element that is opened is closed, in order."""

    VOID = frozenset({"meta", "line", "polyline", "br", "input"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(page: str) -> Strict:
    parser = Strict()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


@pytest.fixture
def page(tmp_path: Path) -> Strict:
    film = tmp_path / "x.mp4"
    film.write_bytes(b"film \x00 bytes")
    answers = {
        "smnet_resnet18": Prediction(str(film), (CLASSES[0],), (0.9,)),
        "<tsn>": Prediction(str(film), (CLASSES[1],), (0.8,)),
    }
    return parsed(
        report_page(
            "A & B", "<script>alert(1)</script>", [SMNET, TSN], [Sample(film, CLASSES[0], answers)]
        )
    )


def test_what_comes_from_outside_is_escaped(page: Strict) -> None:
    assert not any(tag in ("script", "b", "tsn") for tag, _ in page.seen if tag != "b")
    assert page.seen.count(("b", {})) == 1  # the label under the clip
    text = "".join(page.text)
    assert "<script>alert(1)</script>" in text
    assert text.count(CLASSES[0]) >= 3


def test_nothing_is_fetched_from_elsewhere(page: Strict) -> None:
    for _, attributes in page.seen:
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")


def test_clips_play_in_the_page(page: Strict) -> None:
    (video,) = [attributes for tag, attributes in page.seen if tag == "video"]
    assert {"autoplay", "loop", "muted", "playsinline"} <= set(video)
    head, _, data = str(video["src"]).partition(",")
    assert head == "data:video/mp4;base64"
    assert base64.b64decode(data) == b"film \x00 bytes"
    verdicts = [a["class"] for t, a in page.seen if t == "span" and a.get("class") != "key"]
    assert verdicts == ["good", "bad"]


def test_numbers_and_matrices(page: Strict) -> None:
    text = "".join(page.text)
    assert "100.0% [51.0%, 100.0%]" in text
    assert "50.0% [15.0%, 85.0%]" in text
    assert "4 held-out clips, 2 classes, one view each." in text
    titles = [a["title"] for t, a in page.seen if t == "td" and "title" in a]
    assert titles.count(f"{CLASSES[0]} → {CLASSES[0]}: 2") == 1
    assert titles.count(f"{CLASSES[0]} → {CLASSES[1]}: 1") == 1
    assert len(titles) == 8


def test_curves_stay_in_their_picture(page: Strict) -> None:
    lines = [str(a["points"]) for t, a in page.seen if t == "polyline"]
    assert [len(line.split()) for line in lines] == [3, 1, 3, 1]
    for line in lines:
        for point in line.split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= 480
            assert 0 <= y <= 240
    heights = [float(p.split(",")[1]) for p in lines[0].split()]
    assert heights == sorted(heights, reverse=True)  # top-1 rises


def test_a_page_of_one_epoch_and_no_clips() -> None:
    one = replace(SMNET, curve=[(1, 2.0, 0.5)])
    text = report_page("x", "y", [one], [])
    parsed(text)
    assert "nan" not in text.lower()


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole demo, with fewer and smaller clips and smaller networks."""
    out = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        write = demo.write_motion

        def few(root: Path, **options: object) -> Path:
            return write(root, **{**options, "train": 20, "val": 10, "size": 32})  # type: ignore[arg-type]

        def small(name: str, words: list[str], given: dict[str, str]) -> Recipe:
            less = ["options.width=8", "size=32", "short_side=32", "segments=4", "workers=0"]
            return read_recipe(name, [*words, *less], given)

        def short(root: Path, **options: object) -> Path:
            return record(root, **{**options, "size": 32})  # type: ignore[arg-type]

        record = demo.write_recordings
        patch.setattr(demo, "write_recordings", short)
        patch.setattr(demo, "write_motion", few)
        patch.setattr(demo, "read_recipe", small)
        assert demo.run_demo(out, quick=True) == (out / "report.html").resolve()
    return out


def test_the_demo_reports(quick: Path) -> None:
    page = parsed((quick / "report.html").read_text(encoding="utf-8"))
    assert sum(tag == "video" for tag, _ in page.seen) == len(MOTION_CLASSES) + 1  # the recording
    text = "".join(page.text)
    for words in ("smnet_resnet18", "tsn_resnet18", "10 held-out clips, 10 classes", "GMAC"):
        assert words in text
    assert sum(tag == "polyline" for tag, _ in page.seen) >= 4
    assert "A long recording" in text
    assert "F1@25" in text


def test_both_models_have_the_same_budget(quick: Path) -> None:
    one, other = ((quick / f"{f}-quick" / "recipe.yaml").read_text() for f in demo.FAMILIES)
    differ = [(a, b) for a, b in zip(one.splitlines(), other.splitlines(), strict=True) if a != b]
    assert differ == [("model: smnet_resnet18", "model: tsn_resnet18")]


def test_a_demo_again_does_not_train_again(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resumed = []
    train = demo.train

    def watch(recipe: Recipe, folder: Path, *, resume: bool) -> object:
        resumed.append(resume)
        return train(recipe, folder, resume=resume)

    monkeypatch.setattr(demo, "train", watch)
    monkeypatch.setattr(demo, "draw", lambda root, *_: demo.read_clips(root))
    before = (quick / "tsn-quick" / "last.safetensors").read_bytes()
    small = (quick / "tsn-quick" / "recipe.yaml").read_text()
    monkeypatch.setattr(
        demo,
        "read_recipe",
        lambda name, words, given: read_recipe(
            str(quick / f"{words[0].split('=')[1].split('_')[0]}-quick" / "recipe.yaml")
        ),
    )
    demo.run_demo(quick, quick=True)
    assert resumed == [True, True]
    assert (quick / "tsn-quick" / "last.safetensors").read_bytes() == before
    assert (quick / "tsn-quick" / "recipe.yaml").read_text() == small


def test_the_full_demo_is_what_the_recipe_says() -> None:
    recipe = read_recipe("motion", [f"model={demo.FAMILIES[0]}_{demo.TRUNK}"])
    assert recipe.weights == "none"
    assert recipe.epochs >= 5
    assert recipe.views == "1x1"
