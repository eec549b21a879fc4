"""Evaluation: averages of views, exact denominators, classes by name."""

from __future__ import annotations

import io
import math
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smnet.checkpoints.file import load, read_checkpoint, save_checkpoint
from smnet.checkpoints.metadata import view_plan
from smnet.data.annotations.read import read_clips
from smnet.data.annotations.source import ClipSource
from smnet.data.loading import views as views_module
from smnet.data.loading.dataset import read_views
from smnet.data.loading.transforms import normalise
from smnet.data.video import torchcodec as torchcodec_file
from smnet.distributed import Processes
from smnet.errors import UserError
from smnet.evaluation import evaluate as evaluate_module
from smnet.evaluation.evaluate import evaluate_checkpoints
from smnet.evaluation.results import Evaluation
from smnet.evaluation.scoring import Scores, protocol_loader, score_clips
from smnet.inference.torch_backend import VIEWS_AT_ONCE, TorchBackend
from smnet.models import VideoModel
from smnet.training.loop import train
from tests.conftest import CLASSES, tiny, write_clips

HERE = Processes(torch.device("cpu"))


def score_views(model: VideoModel, views: torch.Tensor, *autocast: Any) -> torch.Tensor:
    """Scores by the live model, as training validates."""
    return torch.from_numpy(TorchBackend.live(model, *autocast).score(views.numpy()))


@pytest.fixture(scope="module")
def model(run: Path) -> VideoModel:
    return load(run / "last.safetensors")


def evaluation(*args: Any, **options: Any) -> Evaluation:
    result = evaluate_checkpoints(*args, **{"workers": 0, "device": "cpu", **options})
    assert result is not None
    return result


# --- Views.


def test_softmax_is_averaged_over_the_views(model: VideoModel) -> None:
    torch.manual_seed(0)
    videos = torch.randint(0, 256, (3, 6, 2, 3, 32, 32), dtype=torch.uint8)
    scores = score_views(model, videos)
    assert scores.shape == (3, 3)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (model.spec.mean, model.spec.std))
    for video, row in zip(videos, scores, strict=True):
        total = torch.zeros(3)
        for view in video:
            with torch.no_grad():
                logits = model(((view.float() / 255 - mean) / std)[None])[0]
            exps = (logits - logits.max()).exp()
            total += exps / exps.sum()
        assert torch.allclose(row, total / 6, atol=1e-5)
    assert torch.allclose(scores.sum(1), torch.ones(3))


def test_it_is_the_scores_that_are_averaged_not_the_logits(model: VideoModel) -> None:
    class Said(torch.nn.Module):
        spec = model.spec

        def __init__(self) -> None:
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))
            self.logits = iter([[10.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])

        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            return torch.tensor([next(self.logits) for _ in clips])

    views = torch.zeros((1, 3, 2, 3, 32, 32), dtype=torch.uint8)
    (scores,) = score_views(Said(), views).tolist()  # type: ignore[arg-type]
    sure, doubtful = math.exp(10) / (math.exp(10) + 2), math.e / (math.e + 2)
    assert scores[1] == pytest.approx((math.exp(0) / (math.exp(10) + 2) + 2 * doubtful) / 3, 1e-5)
    assert scores[0] == pytest.approx((sure + 2 / (math.e + 2)) / 3, 1e-5)


def test_many_views_go_in_parts_and_mean_the_same(model: VideoModel) -> None:
    count = VIEWS_AT_ONCE + 3
    views = torch.randint(0, 256, (2, count, 2, 3, 32, 32), dtype=torch.uint8)
    parts = []

    def watch(module: VideoModel, args: tuple[torch.Tensor]) -> None:
        parts.append(len(args[0]))

    handle = model.register_forward_pre_hook(watch)
    scores = score_views(model, views)
    handle.remove()
    assert sum(parts) == 2 * count
    assert max(parts) == VIEWS_AT_ONCE
    alone = torch.cat([score_views(model, views[:, k : k + 1]) for k in range(count)])
    expected = alone.unflatten(0, (count, 2)).mean(0)
    assert torch.allclose(scores, expected, atol=1e-5)


def test_autocast_is_entered(model: VideoModel) -> None:
    entered = []

    def context() -> AbstractContextManager[Any]:
        entered.append(1)
        return nullcontext()

    score_views(model, torch.zeros((1, 1, 2, 3, 32, 32), dtype=torch.uint8), context)
    assert entered == [1]


@pytest.mark.parametrize(("views", "count"), [("1x1", 1), ("2x3", 6), ("1x5", 5), ("10x3", 30)])
def test_protocols(run: Path, clips: Path, model: VideoModel, views: str, count: int) -> None:
    result = evaluation([str(run / "last.safetensors")], str(clips), views=views, batch=4)
    assert result.views == views
    assert result.scores.shape == (6, 3)
    n, crops = map(int, views.split("x"))
    plan = view_plan(model.spec, n, crops)
    assert plan.views == count
    for number in (0, 5):
        alone = score_views(model, read_views(result.paths[number], plan)[None])[0]
        assert np.allclose(result.scores[number], alone, atol=1e-5)


def test_the_plan_is_that_of_the_checkpoint(model: VideoModel) -> None:
    spec = replace(model.spec, sampling="dense", num_segments=3, input_size=24, short_side=30)
    plan = view_plan(spec, 2, 3)
    assert (plan.sampling, plan.segments, plan.size, plan.short_side) == ("dense", 3, 24, 30)
    assert (plan.clips, plan.crops, plan.train) == (2, 3, False)


# --- Lists.


def test_every_clip_once_in_the_order_of_the_list(clips: Path, model: VideoModel) -> None:
    rows = read_clips(clips).splits["val"]
    loader = protocol_loader(rows, view_plan(model.spec), HERE, batch=4, workers=0)
    done: list[int] = []
    scores, problems, *_ = score_clips(TorchBackend.live(model), loader, HERE, progress=done.append)
    assert problems == {}
    assert sum(done) == len(rows) == len(scores)
    for row, scored in zip(rows, scores, strict=True):
        views = read_views(row.path, view_plan(model.spec))[None]
        assert np.allclose(scored, score_views(model, views)[0], atol=1e-5)


def test_the_result_does_not_depend_on_the_batch(run: Path, clips: Path) -> None:
    one, many = (evaluation([str(run)], str(clips), batch=batch) for batch in (1, 8))
    assert np.allclose(one.scores, many.scores, atol=1e-5)
    assert one.paths == many.paths


def test_other_splits(run: Path, clips: Path) -> None:
    assert len(evaluation([str(run)], str(clips), split="train").labels) == 9
    with pytest.raises(UserError, match=r"no split 'test'; there are: train \(9\), val \(6\)"):
        evaluation([str(run)], str(clips), split="test")


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Six clips to evaluate: one is truncated beyond use, one is not a video."""
    data = write_clips(tmp_path / "damaged", {"train": 1, "val": 2})
    cut = data / "val" / "rising" / "1.mp4"
    cut.write_bytes(cut.read_bytes()[:200])
    (data / "val" / "falling" / "0.mp4").write_bytes(b"not a video")
    return data


def test_an_unreadable_clip_is_an_error_with_its_name(run: Path, damaged: Path) -> None:
    with pytest.raises(UserError, match=r"val/falling/0\.mp4: "):
        evaluation([str(run)], str(damaged))


def test_with_skip_an_unreadable_clip_counts_as_wrong(run: Path, damaged: Path) -> None:
    result = evaluation([str(run)], str(damaged), on_error="skip")
    assert len(result.labels) == len(result.scores) == 6
    assert result.summary()["clips"] == 6
    assert result.summary()["unreadable"] == len(result.problems) == 2
    lost = [i for i, path in enumerate(result.paths) if path.endswith(("ng/0.mp4", "ng/1.mp4"))]
    lost = [i for i in lost if np.isnan(result.scores[i]).all()]
    assert len(lost) == 2
    assert set(result.predictions[lost]) == {-1}
    right = sum(int(result.predictions[i] == result.labels[i]) for i in range(6))
    assert right <= 4
    assert result.top(1).value == pytest.approx(right / 6)
    assert result.top(3).value == pytest.approx(4 / 6)
    assert [(r.name, r.clips) for r in result.by_class] == [(name, 2) for name in CLASSES]
    assert result.confusion.sum() == 4


def test_a_clip_that_one_of_several_networks_cannot_read(
    run: Path, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts as wrong, once, and is named; whichever network it was."""
    real = score_clips
    members = iter([({1: "one"}, {2: "hurt"}), ({4: "four", 1: "again"}, {2: "again", 0: "too"})])

    def scored(*args: Any, **options: Any) -> Any:
        scores = real(*args, **options).scores
        not_read, hurt = next(members)
        scores[list(not_read)] = np.nan
        return Scores(scores, not_read, hurt, scores[:, 0])

    monkeypatch.setattr(evaluate_module, "score_clips", scored)
    result = evaluation([str(run), str(run)], str(clips), on_error="skip")
    assert result.problems == ("one", "four")
    assert result.damaged == ("too", "hurt")
    assert np.flatnonzero(result.predictions == -1).tolist() == [1, 4]


def test_the_decoder_is_that_asked_for(
    run: Path, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = views_module.open_video

    def opened(path: str, decoder: str, **options: Any) -> Any:
        asked.append(decoder)
        return real(path, **options)

    monkeypatch.setattr(views_module, "open_video", opened)
    monkeypatch.setattr(evaluate_module, "check_decoder", lambda name: None)
    evaluation([str(run)], str(clips), decoder="torchcodec")
    assert asked == ["torchcodec"] * 6


def test_a_decoder_that_is_not_there_is_no_matter_of_the_clips(
    run: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    torchcodec_file.library.cache_clear()
    with pytest.raises(UserError, match="decoder torchcodec does not load; install it with"):
        evaluation([str(run)], str(clips), decoder="torchcodec", on_error="skip")
    with pytest.raises(UserError, match="decoder torchcodec does not load; install it with"):
        train(tiny(clips, decoder="torchcodec", on_error="skip"), tmp_path / "run")
    torchcodec_file.library.cache_clear()
    with pytest.raises(UserError, match="no decoder 'decord'; there are: pyav, torchcodec"):
        evaluation([str(run)], str(clips), decoder="decord", on_error="skip")


def test_a_list_without_labels_cannot_be_measured(
    run: Path, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = read_clips(clips)
    test = [replace(clip, label=-1) for clip in known.splits["val"]]
    unlabelled = replace(known, splits={**known.splits, "test": test})
    monkeypatch.setattr("smnet.evaluation.evaluate.read_clips", lambda *_, **__: unlabelled)
    with pytest.raises(UserError, match="6 of 6 clips of split 'test' have no label"):
        evaluation([str(run)], str(clips), split="test")


# --- Clips that were not trained on.


@pytest.fixture
def unsplit(tmp_path: Path) -> Path:
    """A folder per class, without a split; nothing is learned from its clips here."""
    folder = write_clips(tmp_path / "made", {"train": 5}) / "train"
    return folder.rename(tmp_path / "unsplit")


def drawn(data: Path, **division: Any) -> set[str]:
    return {clip.path for clip in read_clips(ClipSource(data, **division)).splits["val"]}


def trained_on(run: Path, out: Path, **recipe: Any) -> str:
    """A checkpoint that says it was trained by another recipe."""
    checkpoint = read_checkpoint(run)
    save_checkpoint(out, replace(checkpoint, recipe={**checkpoint.recipe, **recipe}))
    return str(out)


def test_a_drawn_split_is_the_one_of_training(
    run: Path, unsplit: Path, tmp_path: Path, said: io.StringIO
) -> None:
    mine = trained_on(run, tmp_path / "a.safetensors", split_seed=1, val_fraction=0.4)
    result = evaluation([mine], str(unsplit))
    assert set(result.paths) == drawn(unsplit, split_seed=1, val_fraction=0.4)
    assert set(result.paths) != drawn(unsplit, val_fraction=0.4)
    assert "the data set has no splits" in said.getvalue()
    assert "--split all" in said.getvalue()
    # Before the split had a seed of its own.
    old = trained_on(run, tmp_path / "b.safetensors", seed=1, val_fraction=0.4, split_seed=None)
    recipe = dict(read_checkpoint(old).recipe)
    del recipe["split_seed"]
    save_checkpoint(old, replace(read_checkpoint(old), recipe=recipe))
    assert evaluation([old], str(unsplit)).paths == result.paths


def test_training_leaves_these_clips_out_for_any_seed(unsplit: Path, tmp_path: Path) -> None:
    for seed in (0, 5):
        assert train(tiny(unsplit, seed=seed, epochs=1), tmp_path / str(seed)).finished
    runs = [str(tmp_path / "0"), str(tmp_path / "5")]
    result = evaluation(runs, str(unsplit))
    assert set(result.paths) == drawn(unsplit)
    assert [read_checkpoint(r).metrics["val"]["clips"] for r in runs] == [len(result.labels)] * 2


def test_every_clip(run: Path, unsplit: Path, clips: Path, said: io.StringIO) -> None:
    assert len(evaluation([str(run)], str(unsplit), split="all").labels) == 15
    assert len(evaluation([str(run)], str(clips), split="all").labels) == 15
    assert "split of its own" not in said.getvalue()


def test_checkpoints_of_other_clips_are_not_measured_together(
    run: Path, unsplit: Path, clips: Path, tmp_path: Path
) -> None:
    both = [trained_on(run, tmp_path / f"{seed}.safetensors", split_seed=seed) for seed in (0, 1)]
    with pytest.raises(UserError, match=r"different splits of it .*split_seed=1"):
        evaluation(both, str(unsplit))
    assert evaluation(both, str(clips)).labels.tolist()  # which has a split of its own
    assert len(evaluation(both, str(unsplit), split="all").labels) == 15


@pytest.mark.parametrize("damage", [{"fold": "x"}, {"val_fraction": 7}, {"split_seed": None}])
def test_a_recipe_that_does_not_tell(
    run: Path, unsplit: Path, tmp_path: Path, damage: dict[str, Any]
) -> None:
    found = evaluation([trained_on(run, tmp_path / "a.safetensors", **damage)], str(unsplit))
    assert set(found.paths) == drawn(unsplit)


# --- Classes, by name.


def as_list(clips: Path, folder: Path, names: list[str]) -> Path:
    """The val clips as a list file whose class numbers count into ``names``."""
    folder.mkdir()
    (folder / "classes.txt").write_text("\n".join(names) + "\n")
    for split in ("train", "val"):
        rows = [f"{p} {names.index(p.parent.name)}" for p in sorted((clips / split).rglob("*.mp4"))]
        (folder / f"{split}.txt").write_text("\n".join(rows) + "\n")
    return folder


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 0, 2), (2, 1, 0)])
def test_another_order_of_the_classes_gives_the_same_accuracy(
    run: Path, clips: Path, tmp_path: Path, order: tuple[int, ...], said: io.StringIO
) -> None:
    names = [CLASSES[i] for i in order]
    data = as_list(clips, tmp_path / "list", names)
    assert read_clips(data).classes == tuple(names)
    plain, turned = (evaluation([str(run)], str(d)) for d in (clips, data))
    assert turned.classes == tuple(names)
    assert plain.top(1).value == turned.top(1).value >= 2 / 3
    by_path = dict(zip(plain.paths, plain.scores, strict=True))
    for path, scores in zip(turned.paths, turned.scores, strict=True):
        assert np.allclose(by_path[path][list(order)], scores, atol=1e-6)
    assert {r.name: r.recall for r in plain.by_class} == {r.name: r.recall for r in turned.by_class}
    assert "classes have another position; matched by name" in said.getvalue()


def test_case_and_blanks_do_not_make_another_class(run: Path, tmp_path: Path) -> None:
    data = write_clips(tmp_path / "d", {"train": 1, "val": 1}, ("Falling", "RESTING", "rising"))
    assert evaluation([str(run)], str(data)).top(1).value >= 2 / 3


def test_other_classes_are_refused_with_the_difference(run: Path, tmp_path: Path) -> None:
    data = write_clips(tmp_path / "d", {"train": 1, "val": 1}, ("falling", "resting", "sinking"))
    with pytest.raises(UserError) as caught:
        evaluation([str(run)], str(data))
    text = str(caught.value)
    assert text.startswith(str(run))
    assert "only the model has 'rising'" in text
    assert "only the data have 'sinking'" in text


def test_fewer_classes_are_refused(run: Path, tmp_path: Path) -> None:
    data = write_clips(tmp_path / "d", {"train": 1, "val": 1}, CLASSES[:2])
    with pytest.raises(UserError, match=r"has 3 classes, the data have 2.*only the model has 'ri"):
        evaluation([str(run)], str(data))


def test_a_network_with_a_background_class(run: Path, tmp_path: Path, said: io.StringIO) -> None:
    """The data need no clips of it. Where it is the answer, the answer is wrong."""
    old = read_checkpoint(run / "last.safetensors")
    names = (CLASSES[0], "none", *CLASSES[2:])  # in place of one of the classes
    path = tmp_path / "none.safetensors"
    save_checkpoint(path, replace(old, spec=replace(old.spec, class_names=names)))
    data = write_clips(tmp_path / "d", {"train": 1, "val": 2}, (CLASSES[0], CLASSES[2]))
    result = evaluation([str(path)], str(data))
    assert result.classes == (CLASSES[0], CLASSES[2], "none")
    assert result.predictions.tolist() == [0, 0, 2, 2]  # the second class is drawn as CLASSES[1]
    assert result.top(1).value == 0.5
    assert "no clips of 'none'; this answer counts as wrong" in said.getvalue()


@pytest.fixture
def nameless(run: Path, tmp_path: Path) -> Callable[[int], Path]:
    def make(classes: int) -> Path:
        old = read_checkpoint(run / "last.safetensors")
        spec = replace(old.spec, class_names=None, num_classes=classes)
        tensors = dict(old.tensors)
        if classes != 3:
            tensors["fc.weight"] = torch.zeros(classes, tensors["fc.weight"].shape[1])
            tensors["fc.bias"] = torch.zeros(classes)
        path = tmp_path / f"{classes}.safetensors"
        save_checkpoint(path, replace(old, spec=spec, tensors=tensors))
        return path

    return make


def test_a_checkpoint_without_names(
    nameless: Callable[[int], Path], run: Path, clips: Path
) -> None:
    anonymous, named = (
        evaluation([str(path)], str(clips)) for path in (nameless(3), run / "last.safetensors")
    )
    assert np.array_equal(anonymous.scores, named.scores)
    with pytest.raises(UserError, match="4 classes without names; the data set has 3"):
        evaluation([str(nameless(4))], str(clips))


# --- Several checkpoints.


@pytest.fixture(scope="module")
def other(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's model with its classes in another order, and other scores."""
    old = read_checkpoint(run / "last.safetensors")
    order = [2, 0, 1]
    tensors = dict(old.tensors)
    tensors["fc.weight"] = tensors["fc.weight"][order] * 0.5
    tensors["fc.bias"] = tensors["fc.bias"][order] + torch.tensor([1.0, 0, 0])
    spec = replace(old.spec, class_names=tuple(CLASSES[i] for i in order))
    path = tmp_path_factory.mktemp("other") / "other.safetensors"
    save_checkpoint(path, replace(old, spec=spec, tensors=tensors))
    return path


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        (None, (0.5, 0.5)),
        ("1,3", (0.25, 0.75)),
        ("0.2, 0", (1.0, 0.0)),
        ("1e39,1e39", (0.5, 0.5)),
        ("1e-50,3e-50", (0.25, 0.75)),
    ],
)
def test_an_ensemble_is_the_weighted_mean_of_the_scores(
    run: Path, other: Path, clips: Path, weights: str | None, shares: tuple[float, float]
) -> None:
    first, second = str(run / "last.safetensors"), str(other)
    one, two = (evaluation([path], str(clips)) for path in (first, second))
    both = evaluation([first, second], str(clips), weights=weights)
    assert np.allclose(both.scores, shares[0] * one.scores + shares[1] * two.scores, atol=1e-6)
    assert np.allclose(both.scores.sum(1), 1, atol=1e-5)
    assert not np.allclose(one.scores, two.scores, atol=0.01)


def test_two_streams_see_clips_of_different_lengths(run: Path, clips: Path, tmp_path: Path) -> None:
    changes = {"model": "rgbdiff_resnet18", "segments": 3, "epochs": 1}
    assert train(tiny(clips, **changes), tmp_path / "differences").finished
    frames, differences = str(run), str(tmp_path / "differences")
    assert load(Path(differences) / "last.safetensors").spec.frames_per_clip == 18
    one, two = (evaluation([path], str(clips), views="1x3") for path in (frames, differences))
    both = evaluation([frames, differences], str(clips), views="1x3", weights="1,1.5")
    assert np.allclose(both.scores, 0.4 * one.scores + 0.6 * two.scores, atol=1e-6)
    assert not np.allclose(one.scores, two.scores, atol=0.01)


@pytest.mark.parametrize(
    "weights", ["", "1", "1,2,3", "a,b", "-1,2", "0,0", "nan,1", "inf,1", "1;2"]
)
def test_shares_that_cannot_be(run: Path, clips: Path, weights: str) -> None:
    with pytest.raises(UserError, match="weights"):
        evaluation([str(run), str(run)], str(clips), weights=weights)


@pytest.mark.parametrize("views", ["7x2", "x", "0x1"])
def test_views_that_cannot_be(run: Path, clips: Path, views: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"views={views!r}")):
        evaluation([str(run)], str(clips), views=views)


def test_normalisation_is_that_of_the_checkpoint(model: VideoModel) -> None:
    seen = []
    handle = model.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    spec = model.spec
    model.spec = replace(spec, mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 2.0))
    views = torch.full((1, 1, 2, 3, 32, 32), 255, dtype=torch.uint8)
    score_views(model, views)
    model.spec = spec
    handle.remove()
    assert seen[0][0, 0, :, 0, 0].tolist() == [1.0, 1.0, 0.0]
    assert torch.equal(seen[0], normalise(views[0], (0.0, 0.5, 1.0), (1.0, 0.5, 2.0)))


def with_views(run: Path, out: Path, views: str) -> str:
    checkpoint = read_checkpoint(run)
    recipe = {**checkpoint.recipe, "views": views}
    save_checkpoint(out, replace(checkpoint, recipe=recipe))
    return str(out)


def test_views_are_those_of_the_recipe(run: Path, clips: Path, tmp_path: Path) -> None:
    own = with_views(run, tmp_path / "own.safetensors", "2x3")
    assert evaluation([own], str(clips)).views == "2x3"
    assert evaluation([own], str(clips), views="1x1").views == "1x1"
    assert evaluation([own, own], str(clips)).views == "2x3"
    with pytest.raises(UserError, match=r"different views \(2x3, 1x1\); choose with --views"):
        evaluation([own, str(run)], str(clips))


def test_impossible_rules_are_refused_before_any_clip_is_scored(
    run: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = read_checkpoint(run)
    other = replace(checkpoint, spec=replace(checkpoint.spec, sampling="tsn"))
    save_checkpoint(tmp_path / "tsn.safetensors", other)
    monkeypatch.setattr(evaluate_module, "score_clips", None)
    with pytest.raises(UserError, match=r"tsn\.safetensors: .*'tsn' gives 1 clip"):
        evaluation([str(run), str(tmp_path / "tsn.safetensors")], str(clips), views="2x1")


def test_a_list_that_counts_from_one(run: Path, clips: Path, tmp_path: Path) -> None:
    rows = [
        f"{clips}/val/{name}/{k}.mp4 {label}"
        for label, name in enumerate(CLASSES, start=1)
        for k in range(2)
    ]
    (tmp_path / "list.txt").write_text("\n".join(rows) + "\n")
    (tmp_path / "names.txt").write_text("\n".join(CLASSES) + "\n")
    source = ClipSource(tmp_path / "list.txt", labels=tmp_path / "names.txt", first_label=1)
    counted = evaluation([str(run)], source, split="all")
    expected = evaluation([str(run)], str(clips))
    assert counted.top(1) == expected.top(1)
    assert counted.classes == expected.classes
