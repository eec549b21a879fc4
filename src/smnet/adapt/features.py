"""Features of clips: the network runs once per clip and view, and its features are kept on disk."""

from __future__ import annotations

import hashlib
import time
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
from smnet.models.base import over_time

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
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[NDArray[np.float32], dict[int, str]]:
    """The input of the classifier for the test views of each clip.

    Args:
        backend: the network.
        clips: the clips.
        plan: the views, V of a clip.
        cache: where features are kept.
        source: what identifies the network, such as a digest of its file.
        mirrored: whether each view is also taken as in a mirror.
        batch: clips per forward pass.
        workers: decoding processes; None is one per core, at most 8.
        progress: is called with the number of clips just finished.

    Returns:
        Features (N, V, D), or (N, 2V, D) with the mirrored views last; NaN for a clip that cannot
        be read. And why clips cannot be read, by their position.
    """
    keys = [_key(clip, plan, source, mirrored) for clip in clips]
    rows = {i: row for i, key in enumerate(keys) if (row := cache.get(key)) is not None}
    progress(len(rows))
    missing = [i for i in range(len(clips)) if i not in rows]
    problems: dict[int, str] = {}
    if missing:
        dataset = ClipDataset([clips[i] for i in missing], plan)
        for part in make_loader(dataset, TestBatches(len(missing), batch), workers):
            problems.update((missing[i], message) for i, message in part.problems)
            if len(part.indices):
                done = [missing[i] for i in part.indices.tolist()]
                for i, row in zip(done, _run(backend, part.views, mirrored), strict=True):
                    rows[i] = row
                    cache.put(keys[i], row)
            progress(len(part.indices) + len(part.problems))
        cache.save()
    if not rows:
        raise UserError(f"no clip can be read: {next(iter(problems.values()), 'there is none')}")
    blank = np.full_like(next(iter(rows.values())), np.nan)
    return np.stack([rows.get(i, blank) for i in range(len(clips))]), problems


def _run(backend: TorchBackend, views: Tensor, mirrored: bool) -> NDArray[np.float32]:
    """(B, V, D) of views (B, V, T*L, 3, h, w), or (B, 2V, D) with the mirrored ones last."""
    sides = [views, views.flip(-1)] if mirrored else [views]
    return np.concatenate([backend.features(side.numpy(), over_time) for side in sides], 1)


def _key(clip: Clip, plan: ViewPlan, source: str, mirrored: bool) -> str:
    """Identifies the views of a clip: its file, the network and the plan."""
    try:
        stat = Path(clip.path).stat()
        state = f"{stat.st_size} {stat.st_mtime_ns}"
    except OSError:
        state = ""
    file = (clip.path, clip.part, clip.num_frames, clip.template)  # not its label or its group
    text = f"{source}\n{file!r}\n{state}\n{plan!r}\n{mirrored}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
