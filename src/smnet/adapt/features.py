"""Features of clips: the network runs once per clip and view, and its features are kept on disk."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from smnet.data.annotations.read import Clip
from smnet.data.loading.dataset import ClipDataset, TestBatches
from smnet.data.loading.loader import make_loader
from smnet.data.loading.views import ViewPlan
from smnet.errors import UserError
from smnet.files import atomic_path
from smnet.inference.torch_backend import TorchBackend
from smnet.models.base import over_phases

_SAVE_EVERY = 60.0  # seconds


class FeatureCache:
    """Features by key in one file, so that an interrupted computation continues.

    Args:
        path: an ``.npz`` file; a missing or damaged one is an empty cache.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, NDArray[np.float32]] = {}
        self._saved = time.monotonic()
        try:
            with np.load(path, allow_pickle=False) as file:
                self._rows = dict(zip(file["keys"].tolist(), file["values"], strict=True))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            pass

    def get(self, key: str) -> NDArray[np.float32] | None:
        return self._rows.get(key)

    def put(self, key: str, value: NDArray[np.float32]) -> None:
        """Add a row; the file is written once a minute."""
        self._rows[key] = value
        if time.monotonic() - self._saved > _SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Write the file.

        Raises:
            UserError: it cannot be written.
        """
        if not self._rows:
            return
        keys, values = np.array(list(self._rows)), np.stack(list(self._rows.values()))
        with atomic_path(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, keys=keys, values=values)
        self._saved = time.monotonic()


def clip_features(
    backend: TorchBackend,
    clips: Sequence[Clip],
    plan: ViewPlan,
    cache: FeatureCache,
    source: str,
    *,
    mirrored: bool,
    batch: int = 8,
    workers: int | None = None,
    until: float | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[NDArray[np.float32], dict[int, str]]:
    """The moments of the features for the test views of each clip (:func:`over_phases`).

    Args:
        backend: the network.
        clips, plan, cache, batch, workers, until, progress: as in :func:`rows_of`; the plan has V
            views of a clip.
        source: what identifies the network, such as a digest of its file.
        mirrored: whether each view is also taken as in a mirror.

    Returns:
        Features (N, V, 9C), or (N, 2V, 9C) with the mirrored views last; NaN for a clip that cannot
        be read, or that was not reached. And why clips cannot be read, by their position.
    """
    return rows_of(
        clips,
        plan,
        lambda views: _run(backend, views, mirrored),
        cache,
        f"phases {source} {mirrored}",
        batch=batch,
        workers=workers,
        until=until,
        progress=progress,
    )


def rows_of(
    clips: Sequence[Clip],
    plan: ViewPlan,
    compute: Callable[[Tensor], NDArray[np.float32]],
    cache: FeatureCache,
    source: str,
    *,
    batch: int = 8,
    workers: int | None = None,
    until: float | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[NDArray[np.float32], dict[int, str]]:
    """What is computed from the views of each clip, or what the cache has of it.

    Args:
        clips: the clips.
        plan: the views.
        compute: a row of the result for each clip, from views (B, V, T*L, 3, h, w) uint8.
        cache: where rows are kept.
        source: identifies ``compute``.
        batch: clips per call of ``compute``.
        workers: decoding processes; None is one per core, at most 8.
        until: ``time.monotonic()`` from which no further batch is computed. The clips are taken in
            turns from all classes. None computes all.
        progress: is called with the number of clips just finished.

    Returns:
        The rows (N, ...); NaN for a clip that cannot be read, or that was not reached. And why
        clips cannot be read, by their position.
    """
    keys = [_key(clip, plan, source) for clip in clips]
    rows = {i: row for i, key in enumerate(keys) if (row := cache.get(key)) is not None}
    progress(len(rows))
    missing = [i for i in _in_turns(clips) if i not in rows]
    problems: dict[int, str] = {}
    if missing:
        dataset = ClipDataset([clips[i] for i in missing], plan)
        for part in make_loader(dataset, TestBatches(len(missing), batch), workers):
            problems.update((missing[i], message) for i, message in part.problems)
            if len(part.indices):
                done = [missing[i] for i in part.indices.tolist()]
                for i, row in zip(done, compute(part.views), strict=True):
                    rows[i] = row
                    cache.put(keys[i], row)
            progress(len(part.indices) + len(part.problems))
            if until is not None and time.monotonic() > until:
                break
        cache.save()
    if not rows:
        raise UserError(f"no clip can be read: {next(iter(problems.values()), 'there is none')}")
    blank = np.full_like(next(iter(rows.values())), np.nan)
    return np.stack([rows.get(i, blank) for i in range(len(clips))]), problems


def _in_turns(clips: Sequence[Clip]) -> list[int]:
    """Positions of the clips in random order, one of each class in turn."""
    seen: Counter[int] = Counter()
    turns = []
    for i in np.random.default_rng(0).permutation(len(clips)).tolist():
        turns.append((seen[clips[i].label], i))
        seen[clips[i].label] += 1
    return [i for _, i in sorted(turns, key=lambda turn: turn[0])]


def _run(backend: TorchBackend, views: Tensor, mirrored: bool) -> NDArray[np.float32]:
    """(B, V, D) of views (B, V, T*L, 3, h, w), or (B, 2V, D) with the mirrored ones last."""
    sides = [views, views.flip(-1)] if mirrored else [views]
    return np.concatenate([backend.features(side.numpy(), over_phases) for side in sides], 1)


def _key(clip: Clip, plan: ViewPlan, source: str) -> str:
    """Identifies the row of a clip: its file, what is computed, and the plan."""
    try:
        stat = Path(clip.path).stat()
        state = f"{stat.st_size} {stat.st_mtime_ns}"
    except OSError:
        state = ""
    file = (clip.path, clip.part, clip.num_frames, clip.template)  # not its label or its group
    text = f"{source}\n{file!r}\n{state}\n{plan!r}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
