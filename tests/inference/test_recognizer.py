"""Video in, labelled scores out."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import smnet
from smnet.checkpoints.file import read_checkpoint, save_checkpoint
from smnet.console import json_text
from smnet.data.loading.dataset import read_views
from smnet.data.loading.views import Damage, ViewPlan
from smnet.errors import UserError
from smnet.evaluation.evaluate import evaluate_checkpoints
from smnet.inference.recognizer import Prediction, Recognizer, Utilisation, find_videos
from smnet.inference.torch_backend import score_views
from smnet.report.tables import print_predictions
from tests.conftest import CLASSES, class_frames
from tests.videos import write_video


@pytest.fixture(scope="module")
def recognizer(run: Path) -> Recognizer:
    return Recognizer.load(run, device="cpu")


@pytest.fixture(scope="module")
def videos(clips: Path) -> list[str]:
    return [str(p) for p in sorted((clips / "val").rglob("*.mp4"))]


def test_one_video(recognizer: Recognizer, videos: list[str]) -> None:
    answer = recognizer.predict(videos[0])
    assert answer.path == videos[0]
    assert sorted(answer.labels) == sorted(CLASSES)
    assert list(answer.scores) == sorted(answer.scores, reverse=True)
    assert sum(answer.scores) == pytest.approx(1, abs=1e-5)
    assert (answer.label, answer.score) == (answer.labels[0], answer.scores[0])
    assert answer.error == ""
    scores = score_views(recognizer.backend.model, read_views(videos[0], recognizer.plan)[None])[0]
    assert dict(zip(answer.labels, answer.scores, strict=True)) == pytest.approx(
        dict(zip(CLASSES, scores.tolist(), strict=True))
    )


def test_many_agree_with_one_in_their_order(recognizer: Recognizer, videos: list[str]) -> None:
    alone = [recognizer.predict(video) for video in videos]
    for batch, workers in ((1, 1), (4, 2), (50, None)):
        answers = list(recognizer.predict_many(iter(videos), 5, batch, workers))
        assert [a.path for a in answers] == videos
        for one, other in zip(alone, answers, strict=True):
            assert one.labels == other.labels
            assert one.scores == pytest.approx(other.scores, abs=1e-5)


def test_prediction_and_evaluation_agree(
    run: Path, clips: Path, recognizer: Recognizer, videos: list[str]
) -> None:
    result = evaluate_checkpoints([str(run)], str(clips), workers=0, device="cpu")
    assert result is not None
    named = {path: CLASSES[k] for path, k in zip(result.paths, result.predictions, strict=True)}
    assert {a.path: a.label for a in recognizer.predict_many(videos)} == named


def test_views_are_averaged(run: Path, videos: list[str]) -> None:
    many = Recognizer.load(run, "cpu", (2, 3))
    assert many.plan.views == 6
    expected = (
        score_views(many.backend.model, read_views(videos[0], many.plan)[None])[0].max().item()
    )
    assert many.predict(videos[0]).score == pytest.approx(expected)


def test_top(recognizer: Recognizer, videos: list[str]) -> None:
    assert len(recognizer.predict(videos[0], top=2).labels) == 2
    assert len(recognizer.predict(videos[0], top=99).labels) == 3


def test_a_broken_video_among_good_ones(
    recognizer: Recognizer, videos: list[str], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(Path(videos[0]).read_bytes()[:300])
    gone = str(tmp_path / "gone.mp4")
    mixed = [videos[0], str(broken), videos[1], gone, videos[2]]
    answers = list(recognizer.predict_many(mixed, batch=2))
    assert [a.path for a in answers] == mixed
    assert [bool(a.error) for a in answers] == [False, True, False, True, False]
    assert answers[1].error.startswith(str(broken))
    assert answers[3].error == f"{gone}: no such file or folder"
    assert (answers[1].label, answers[1].score, answers[1].labels) == ("", 0.0, ())
    assert answers[1].to_dict() == {"path": str(broken), "error": answers[1].error}
    assert answers[2].label == recognizer.predict(videos[1]).label
    with pytest.raises(UserError, match=r"broken\.mp4: "):
        recognizer.predict(broken)


def test_nothing_but_broken_videos(recognizer: Recognizer, tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.mp4" for i in range(5)]
    assert all(a.error for a in recognizer.predict_many(paths, batch=2))
    assert list(recognizer.predict_many([])) == []


def test_a_video_without_end_costs_its_own_answer(
    recognizer: Recognizer, videos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, end = recognizer.backend.read, threading.Event()

    def hostile(path: str, plan: ViewPlan, damage: Damage) -> NDArray[np.uint8]:
        if path.startswith("stuck"):
            end.wait()  # as a loop in C is: other threads go on, this one does not come back
        return read(path, plan, damage)

    monkeypatch.setattr(recognizer.backend, "read", hostile)
    mixed = ["stuck1.mp4", *videos, "stuck2.mp4", "gone.mp4"]
    used = Utilisation()
    answers = list(recognizer.predict_many(mixed, 5, 2, 1, used, timeout=3.0))
    assert [a.path for a in answers] == mixed
    assert [bool(a.error) for a in answers] == [a.path not in videos for a in answers]
    assert answers[0].error.startswith("stuck1.mp4: not read within 3 seconds")
    assert used.clips == len(mixed)
    end.set()


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"workers": 0}, {"top": 0}, {"top": -1}], ids=str)
def test_numbers_that_mean_nothing(
    recognizer: Recognizer, videos: list[str], wrong: dict[str, int]
) -> None:
    name, number = next(iter(wrong.items()))
    with pytest.raises(UserError, match=f"{name} is {number}; it must be at least 1"):
        next(recognizer.predict_many(videos, **wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize("crops", [0, 2, 4])
def test_crops_that_no_protocol_has(recognizer: Recognizer, crops: int) -> None:
    with pytest.raises(UserError, match=f"views 1x{crops}: crops must be 1, 3 or 5"):
        Recognizer(recognizer.backend, (1, crops))


def test_an_empty_name() -> None:
    with pytest.raises(UserError, match="an empty name"):
        find_videos([""])


def test_names_that_are_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    answer = Prediction(os.fsdecode(b"caf\xe9\x1b[31m\n.mp4"), ("é",), (1.0,))
    line = json_text(answer.to_dict())
    assert json.loads(line.encode("utf-8"))["path"] == answer.path
    assert "é" in json_text(replace(answer, path="a.mp4").to_dict())
    print_predictions(
        [answer, replace(answer, error=f"{answer.path}: gone")], [answer.path] * 2, ["é"]
    )
    told = capsys.readouterr()
    for text in (told.out, told.err):
        assert "\x1b" not in text
        assert text.count("\n") <= 1


def test_an_endless_source(recognizer: Recognizer, videos: list[str]) -> None:
    taken = 0

    def forever() -> Iterator[str]:
        nonlocal taken
        for video in itertools.cycle(videos):
            taken += 1
            yield video

    answers = list(itertools.islice(recognizer.predict_many(forever(), batch=2, workers=2), 20))
    assert len(answers) == 20
    assert taken <= 20 + 2 * 2 + 2 + 2  # decoding runs ahead, but not away


def test_what_kept_it_busy_is_counted(recognizer: Recognizer, videos: list[str]) -> None:
    used = Utilisation()
    answers = list(recognizer.predict_many([*videos, "gone.mp4"], 5, 2, 2, used))
    assert used.clips == len(answers) == len(videos) + 1
    assert used.threads == 2
    assert min(used.network, used.waiting, used.decoding) > 0
    assert str(used).startswith(f"{used.clips} clips in ")
    slow = Utilisation(clips=10, threads=2, network=1.0, waiting=3.0, decoding=6.0)
    assert str(slow) == (
        "10 clips in 4.0 s, 2.5 clips/s: network busy 25%, 2 decoding threads 75%; decoding is the"
        " limit"
    )
    fast = Utilisation(clips=1, threads=1, network=3.0, waiting=1.0, decoding=1.0)
    assert str(fast).endswith("network busy 75%, 1 decoding thread 25%; the network is the limit")
    taker = Utilisation(clips=1, threads=1, network=0.2, waiting=0.1, decoding=0.2, elapsed=3.0)
    assert str(taker).endswith("; what takes the answers is the limit")
    both = Utilisation(clips=1, threads=1, network=3.0, waiting=0.2, decoding=3.0)
    assert str(both).endswith("network busy 94%, 1 decoding thread 94%; both are the limit")
    assert str(Utilisation()).startswith("0 clips in 0.0 s")


def test_decoding_while_the_caller_is_busy_is_no_more_than_all_the_time(
    recognizer: Recognizer, videos: list[str]
) -> None:
    used = Utilisation()
    for _ in recognizer.predict_many(videos * 3, 5, 1, 1, used):
        time.sleep(0.05)
    assert used.elapsed > used.wall + 0.05 * (used.clips - 1)
    shares = [int(word) for word in re.findall(r"(\d+)%", str(used))]
    assert len(shares) == 2
    assert max(shares) <= 100


def test_a_folder_of_frames(recognizer: Recognizer, tmp_path: Path) -> None:
    frames = class_frames(0, 3)
    for number, frame in enumerate(frames, 1):
        Image.fromarray(frame).save(tmp_path / f"{number:05}.png")
    film = write_video(tmp_path / "a.mkv", frames, codec="ffv1")
    by_folder, by_film = recognizer.predict(tmp_path), recognizer.predict(film)
    # The film's colours went through YUV and back, which a tiny network may feel.
    assert by_folder.label == by_film.label
    assert by_folder.scores == pytest.approx(by_film.scores, abs=0.15)


def test_plain_values() -> None:
    answer = Prediction("a.mp4", ("x", "y"), (0.70000004, 0.2))
    assert answer.to_dict() == {
        "path": "a.mp4",
        "label": "x",
        "score": 0.7,
        "top": [{"label": "x", "score": 0.7}, {"label": "y", "score": 0.2}],
    }


def test_public_names(run: Path) -> None:
    assert smnet.Recognizer is Recognizer
    assert smnet.Prediction is Prediction
    assert smnet.load(run).spec.class_names == CLASSES
    assert {"Recognizer", "load", "create_model"} <= set(dir(smnet))
    with pytest.raises(AttributeError, match="nonsense"):
        smnet.nonsense  # noqa: B018


def test_a_model_without_names_numbers_its_classes(run: Path, tmp_path: Path) -> None:
    old = read_checkpoint(run)
    save_checkpoint(
        tmp_path / "x.safetensors", replace(old, spec=replace(old.spec, class_names=None))
    )
    assert Recognizer.load(tmp_path / "x.safetensors", "cpu").classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("values", "says"), [({"name": "smnet_resnet34"}, "not those of"), ({"name": "x"}, "no model")]
)
def test_a_checkpoint_that_cannot_be_built_is_named(
    run: Path, tmp_path: Path, values: dict[str, str], says: str
) -> None:
    old = read_checkpoint(run)
    file = tmp_path / "x.safetensors"
    save_checkpoint(file, replace(old, spec=replace(old.spec, **values)))
    with pytest.raises(UserError, match=rf"x\.safetensors: .*{says}"):
        Recognizer.load(file, "cpu")


@pytest.mark.parametrize("device", ["gpu", "meta", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_there(run: Path, device: str) -> None:
    with pytest.raises(UserError, match=device):
        Recognizer.load(run, device)


def test_the_network_is_left_in_evaluation_mode(recognizer: Recognizer) -> None:
    assert not any(module.training for module in recognizer.backend.model.modules())
    assert recognizer.backend.device == torch.device("cpu")


# --- What the words of a command line mean.


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.mp4", "a.mp4", "deep/er/c.webm", "deep/d.AVI", "notes.txt", "deep/.hidden.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(2):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(frames / f"{number}.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_in_the_order_given_each_once(place: Path) -> None:
    assert find_videos(["b.mp4", "a.mp4", "b.mp4"]) == ["b.mp4", "a.mp4"]


def test_a_file_is_taken_whatever_its_name(place: Path) -> None:
    assert find_videos(["notes.txt"]) == ["notes.txt"]


def test_a_folder_means_the_videos_below_it(place: Path) -> None:
    found = find_videos([str(place / "deep")])
    assert found == [str(place / "deep/d.AVI"), str(place / "deep/er/c.webm")]


def test_a_folder_of_frames_is_a_video(place: Path) -> None:
    assert find_videos(["frames"]) == ["frames"]


def test_a_picture_makes_no_frames_of_a_folder_of_videos(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.webm", "cover.jpg"):
        (tmp_path / name).touch()
    names = [Path(found).name for found in find_videos([str(tmp_path)])]
    assert names == ["a.mp4", "b.webm"]


def test_folders_of_frames_below_a_folder(tmp_path: Path) -> None:
    for name in ("a/take1/00001.jpg", "a/take1/00002.jpg", "a/take1/more/x.mp4", "a/film.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "film.webm").touch()
    (tmp_path / "b" / "cover.jpg").touch()  # beside videos it is no clip
    names = [str(Path(found).relative_to(tmp_path)) for found in find_videos([str(tmp_path)])]
    assert names == ["a/film.mp4", "a/take1", "b/film.webm"]


def test_patterns(place: Path) -> None:
    assert find_videos(["*.mp4"]) == ["a.mp4", "b.mp4"]
    assert find_videos(["**/*.webm", "?.mp4"]) == ["deep/er/c.webm", "a.mp4", "b.mp4"]


def test_a_name_with_pattern_letters_that_exists_is_a_file(place: Path) -> None:
    (place / "take[1]?.mp4").write_bytes(b"x")
    assert find_videos(["take[1]?.mp4"]) == ["take[1]?.mp4"]


def test_lists(place: Path) -> None:
    (place / "list.txt").write_text("b.mp4\n\n  a.mp4  \nmissing.mp4\n")
    assert find_videos(["@list.txt"]) == ["b.mp4", "a.mp4", "missing.mp4"]


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("*.mkv", r"\*\.mkv: no file matches this pattern"),
        ("empty", "empty: no videos below this folder"),
        ("@nowhere", "nowhere: cannot be read as a list of videos"),
        ("@blank.txt", "blank.txt: an empty list"),
        ("@binary.txt", "binary.txt: cannot be read as a list of videos"),
        ("@empty", "empty: cannot be read as a list"),
    ],
)
def test_words_that_mean_nothing(place: Path, word: str, says: str) -> None:
    (place / "empty").mkdir()
    (place / "blank.txt").write_text("\n \n")
    (place / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=says):
        find_videos(["a.mp4", word])


def test_a_missing_file_is_told_of_beside_the_others(place: Path) -> None:
    assert find_videos(["nowhere.mp4", "a.mp4"]) == ["nowhere.mp4", "a.mp4"]
    with pytest.raises(UserError, match=r"nowhere\.mp4: no such file or folder"):
        find_videos(["nowhere.mp4", "neither.mp4"])


def test_a_run_that_was_moved_still_predicts(
    run: Path, videos: list[str], tmp_path: Path, recognizer: Recognizer
) -> None:
    moved = shutil.copy(run / "best.safetensors", tmp_path / "elsewhere.safetensors")
    answer = Recognizer.load(moved, "cpu").predict(videos[0])
    assert answer.scores == pytest.approx(recognizer.predict(videos[0]).scores)


def test_a_folder_below_that_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "below").mkdir()
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path) == str(tmp_path / "below"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert find_videos([str(tmp_path)]) == [str(tmp_path / "a.mp4"), str(tmp_path / "below")]


def test_no_workers_at_all(run: Path, clips: Path) -> None:
    recognizer = Recognizer.load(run / "best.safetensors", "cpu")
    with pytest.raises(UserError, match="workers is -1; it must be at least 1"):
        list(recognizer.predict_many([str(clips / "val/rising/0.mp4")], workers=-1))
