"""Distances to the answered class: against naive forms, in checkpoints and exported files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from smnet.adapt.discriminants import SHRINKAGE, discriminants
from smnet.adapt.run import Adapted
from smnet.checkpoints.file import load, read_checkpoint
from smnet.checkpoints.save import save_checkpoint
from smnet.evaluation.calibration import LEAST, auroc, calibrate, distance_threshold
from smnet.evaluation.evaluate import evaluate_checkpoints
from smnet.export.export import export
from smnet.inference.backends import open_backend, score_each
from smnet.inference.decision import decide
from smnet.inference.recognizer import Recognizer
from smnet.models.discriminants import PREFIX
from smnet.models.spec import Decision


def naive(x: np.ndarray, labels: np.ndarray, of: np.ndarray, k: int) -> float:
    """The distance of one sample along the discriminants, by the textbook: whiten, then project on
    the space of the class means."""
    classes = sorted(set(labels.tolist()))
    scale = x.std(0) * np.sqrt(x.shape[1])
    x, of = (x - x.mean(0)) / scale, (of - x.mean(0)) / scale
    means = np.stack([x[labels == c].mean(0) for c in classes])
    rest = np.concatenate([x[labels == c] - means[c] for c in classes])
    within = rest.T @ rest / len(x)
    size = np.trace(within) / len(within)
    within = (1 - SHRINKAGE) * within + SHRINKAGE * size * np.eye(len(within))
    values, vectors = np.linalg.eigh(within)
    whiten = vectors @ np.diag(values**-0.5) @ vectors.T
    space = np.linalg.svd((means @ whiten).T, full_matrices=False)
    axes = space[0][:, space[1] > 1e-3 * space[1][0]]
    return float(np.square((of - means[k]) @ whiten @ axes).sum())


@pytest.mark.parametrize("shape", [(60, 8), (40, 30)])
def test_distances_are_those_of_the_textbook(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(shape[0]) % 4
    x = (
        rng.normal(size=shape) * rng.uniform(0.5, 3, shape[1])
        + rng.normal(size=(4, shape[1]))[labels]
    )
    found = discriminants(x, labels, 4)
    assert len(found.directions) == 3  # one less than the classes
    other = rng.normal(size=(5, shape[1])) * 2
    classes = np.array([0, 1, 2, 3, 1])
    wanted = [naive(x, labels, row, k) for row, k in zip(other, classes, strict=True)]
    assert found.to(other, classes) == pytest.approx(wanted, rel=1e-6)


def test_more_features_than_samples_and_a_class_without() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 3
    x = rng.normal(size=(30, 500)) + 2 * rng.normal(size=(3, 500))[labels]
    found = discriminants(x, labels, 4)
    assert found.means.shape == (4, len(found.directions))
    near, far = found.to(x, labels), found.to(rng.normal(size=(30, 500)), labels)
    assert auroc(-near, -far) == 1.0


def test_the_threshold_covers_what_it_says() -> None:
    threshold = distance_threshold(np.arange(1.0, 101))
    assert threshold.value == 96  # 5 of 100 lie at or beyond it
    assert "distance of 96" in str(threshold)
    scores = np.full((40, 2), 0.5)
    truth = np.tile([True, False], (40, 1))
    decision = calibrate(scores, truth, distances=np.arange(40.0), discriminants=1).decision
    assert (decision.unknown_beyond, decision.discriminants) == (38, 1)
    few = calibrate(scores[: LEAST - 1], truth[: LEAST - 1], distances=np.arange(19.0))
    assert few.decision.unknown_beyond == 0


def test_the_distance_decides_and_else_the_score(adapted: Adapted) -> None:
    spec = replace(
        read_checkpoint(adapted.folder).spec,
        decision=Decision(unknown_below=0.9, unknown_beyond=4.0, discriminants=2),
    )
    low, high = np.array([0.4, 0.3, 0.3]), np.array([0.95, 0.03, 0.02])
    assert not decide(spec, low, 3.9)[1]
    assert decide(spec, high, 4.1)[1]
    assert decide(spec, low)[1]
    assert not decide(spec, high)[1]


@pytest.fixture(scope="module")
def measured(adapted: Adapted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The adapted network with a limit in the middle of the distances of the clips."""
    checkpoint = read_checkpoint(adapted.folder)
    assert adapted.crossed.distances is not None
    limit = float(np.median(adapted.crossed.distances))
    decision = replace(checkpoint.spec.decision, unknown_beyond=limit)
    path = tmp_path_factory.mktemp("measured") / "best.safetensors"
    save_checkpoint(path, replace(checkpoint, spec=replace(checkpoint.spec, decision=decision)))
    return path


def test_a_checkpoint_measures_distances(adapted: Adapted, measured: Path, few: Path) -> None:
    checkpoint = read_checkpoint(measured)
    count = checkpoint.spec.decision.discriminants
    assert 1 <= count <= 2
    views = np.random.default_rng(0).integers(0, 255, (2, 1, 2, 3, 32, 32), dtype=np.uint8)
    backend = open_backend(measured, "cpu")
    scores, distances, problems = score_each(backend, views)
    tensors = {k: v.double() for k, v in checkpoint.tensors.items()}
    model = load(measured)
    frames = torch.from_numpy(views[:, 0]).float() / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (model.spec.mean, model.spec.std))
    seen = model.moments(model.forward_features((frames - mean) / std)).detach().double()
    place = seen @ tensors[PREFIX + "directions"].T + tensors[PREFIX + "offset"]
    gaps = place - tensors[PREFIX + "means"][torch.from_numpy(scores.argmax(1))]
    assert distances == pytest.approx(gaps.square().sum(1).numpy(), rel=1e-3)
    assert not problems


def test_all_doors_agree(measured: Path, few: Path, tmp_path: Path) -> None:
    clips = sorted(str(path) for path in (few / "val").rglob("*.mp4"))
    recognizer = Recognizer.load(measured, "cpu")
    answers = [p.unknown for p in recognizer.predict_many(clips, workers=0)]
    result = evaluate_checkpoints([str(measured)], str(few), unknown=str(few), workers=0)
    assert result is not None
    assert result.distances is not None
    limit = result.decision.unknown_beyond
    assert sorted(answers) == sorted((result.distances > limit).tolist())
    assert not result.answered[result.distances > limit].any()
    assert result.unknown_distances is not None
    assert result.unknown_said == int((result.unknown_distances > limit).sum())
    assert result.unknown_auroc == auroc(-result.distances, -result.unknown_distances)


@pytest.mark.usefixtures("torchlib")
def test_exported_files_measure_them_too(measured: Path, few: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    file = export(measured, tmp_path / "net.onnx", features=True).path
    clips = sorted(str(path) for path in (few / "val").rglob("*.mp4"))
    views = np.random.default_rng(0).integers(0, 255, (2, 1, 2, 3, 32, 32), dtype=np.uint8)
    ours, theirs = (score_each(open_backend(f, "cpu"), views) for f in (measured, file))
    assert theirs.distances == pytest.approx(ours.distances, rel=1e-3)
    assert theirs.scores == pytest.approx(ours.scores, abs=1e-4)
    unknown = [
        [p.unknown for p in Recognizer.load(f, "cpu").predict_many(clips, workers=0)]
        for f in (measured, file)
    ]
    assert unknown[0] == unknown[1]


def test_training_starts_from_the_network_without_them(measured: Path) -> None:
    from smnet.models.registry import build_model
    from smnet.training.start_weights import start_from

    spec = read_checkpoint(measured).spec
    model = build_model(replace(spec, decision=Decision()))
    assert "with its classifier" in start_from(model, str(measured))
