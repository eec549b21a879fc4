"""The clips of an inbox that are to be labelled next, under a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from smnet.adapt.features import FeatureCache, clip_features
from smnet.adapt.labelling import LabelTable
from smnet.adapt.proposals import propose
from smnet.adapt.start import open_start
from smnet.console import clip_progress
from smnet.data.clips import Clip
from smnet.errors import UserError
from smnet.inference.backends import plan_views
from smnet.inference.torch_backend import TorchBackend
from smnet.models.base import probabilities

SHOWN = 3
"""Guesses of the network per clip."""


@dataclass(frozen=True)
class Asked:
    """The clips to label, best first, the classes, and the guesses of the network."""

    clips: list[str]
    classes: list[str]
    guesses: list[list[tuple[str, float]]]


def choose_clips(
    start: str,
    videos: Sequence[str],
    table: LabelTable,
    count: int,
    classes: list[str] | None,
    cache: Path,
    device: str = "auto",
    workers: int | None = None,
) -> Asked:
    """Choose the clips to label.

    Args:
        start: the network, see :func:`smnet.adapt.start.open_start`.
        videos: the inbox.
        table: labels that exist.
        count: how many to choose.
        classes: to choose from; None takes those of the network. With others than the network's,
            clips are chosen by their difference alone.
        cache: file of the features.
        device, workers: as in evaluation.

    Raises:
        UserError: no video can be read, or no classes are known.
    """
    backend = open_start(start, device)
    own = list(backend.spec.class_names or ())
    names = list(dict.fromkeys([*(classes or own), *table.rows.values()]))
    if not names:
        raise UserError(f"{start}: has no classes; name them with --classes a,b,c")
    clips = [Clip(video, -1, video) for video in videos]
    with clip_progress("features", "unreadable") as update:
        done = 0

        def advance(number: int) -> None:
            nonlocal done
            done += number
            update(done, len(clips), 0)

        features, _ = clip_features(
            backend,
            clips,
            plan_views(backend),
            FeatureCache(cache),
            start,
            mirrored=False,
            workers=workers,
            progress=advance,
        )
    vectors = features[:, 0]
    scores = scores_of(backend, vectors) if own and set(own) <= set(names) else None
    known = np.array([video in table.rows for video in videos])
    open_ = np.flatnonzero(~known)
    picked = propose(
        vectors[open_],
        count,
        None if scores is None else scores[open_],
        vectors[known] if known.any() else None,
    )
    chosen = open_[picked]
    guesses: list[list[tuple[str, float]]] = [[] for _ in chosen]
    if scores is not None:
        for guess, row in zip(guesses, scores[chosen], strict=True):
            best = np.argsort(-row, kind="stable")[:SHOWN]
            guess += [(own[k], round(float(row[k]), 3)) for k in best]
    return Asked([videos[i] for i in chosen], names, guesses)


@torch.inference_mode()
def scores_of(backend: TorchBackend, features: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Scores (N, K) from features (N, 9C); None if its classifier is not linear on them."""
    model = backend.model
    if not isinstance(model.fc, nn.Linear):
        return None
    seen = torch.from_numpy(features[:, : model.fc.in_features]).to(backend.device)
    scores: NDArray[np.float32] = probabilities(model.fc(seen), backend.spec).cpu().numpy()
    return scores
