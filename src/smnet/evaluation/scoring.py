"""Scoring of a list of clips, each exactly once over all processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from smnet.checkpoints.metadata import view_plan
from smnet.data.annotations.read import Clip
from smnet.data.loading.dataset import ClipDataset, TestBatches
from smnet.data.loading.loader import ClipLoader, make_loader
from smnet.data.loading.views import ViewPlan
from smnet.data.sampling.rules import clips_of_validation
from smnet.distributed import Processes
from smnet.errors import UserError
from smnet.inference.backends import Backend, score_each
from smnet.models import ModelSpec


class Scores(NamedTuple):
    """Scores (N, K) float32 in the order of a list, NaN for a clip that was not read; by index, why
    clips were not read and what was lost of those that were; and distances (N,) to the best class,
    NaN where there is none."""

    scores: NDArray[np.float32]
    problems: dict[int, str]
    damaged: dict[int, str]
    distances: NDArray[np.float32]


def validation_plan(spec: ModelSpec) -> ViewPlan:
    """The views of validation during training: one crop of each clip that the sampling rule takes.

    All published rules validate on one clip, also those that test on two or ten.
    """
    clips = clips_of_validation(spec.sampling) if spec.rate is None else 1
    return view_plan(spec, clips, validation=True)


def protocol_loader(
    clips: Sequence[Clip],
    plan: ViewPlan,
    processes: Processes,
    batch: int = 8,
    workers: int | None = None,
) -> ClipLoader:
    """A loader of every clip once over all processes, ``batch`` views at a time.

    The plan is that of :func:`smnet.inference.backends.plan_views` or :func:`validation_plan`.
    """
    return make_loader(
        ClipDataset(clips, plan),
        TestBatches(len(clips), max(1, batch // plan.views), processes.rank, processes.world),
        workers,
        pin_memory=processes.device.type == "cuda",
    )


def score_clips(
    backend: Backend,
    loader: ClipLoader,
    processes: Processes,
    *,
    on_error: str = "raise",
    progress: Callable[[int], None] = lambda done: None,
) -> Scores:
    """The scores of every clip of :func:`protocol_loader`, on every process.

    Args:
        on_error: ``"raise"`` stops at the first clip that cannot be read. ``"skip"`` reports it and
            counts it as wrong.
        progress: is called with the number of clips just finished.

    Raises:
        UserError: a clip cannot be read and ``on_error`` is ``"raise"``.
    """
    count = len(loader.dataset)
    scores = np.full((count, backend.spec.num_classes), np.nan, dtype=np.float32)
    distances = np.full(count, np.nan, dtype=np.float32)
    problems: dict[int, str] = {}
    damaged: dict[int, str] = {}
    for part in loader:
        indices = part.indices.numpy()
        done = len(indices) + len(part.problems)
        if len(indices):
            judged = score_each(backend, part.views.numpy())
            scores[indices], distances[indices], not_scored = judged
            for row, reason in not_scored.items():
                place = loader.dataset.clips[indices[row]].place
                part.problems.append((int(indices[row]), f"{place}: {reason}"))
        if part.problems and on_error == "raise":
            raise UserError(part.problems[0][1])
        problems.update(part.problems)
        damaged.update(part.damaged)
        progress(done)
    share = slice(processes.rank, None, processes.world)
    own = (scores[share], distances[share], problems, damaged)
    for rank, (rows, far, not_read, lost) in enumerate(processes.gather(own)):
        scores[rank :: processes.world] = rows
        distances[rank :: processes.world] = far
        problems.update(not_read)
        damaged.update(lost)
    return Scores(scores, problems, damaged, distances)


def in_order(messages: dict[int, str]) -> tuple[str, ...]:
    """Messages by the index of their clip, in the order of the clips."""
    return tuple(messages[index] for index in sorted(messages))
