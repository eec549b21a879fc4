"""Decoded clips in memory, so that a small data set is decoded once per run.

A view of a kept clip equals the view that its file gives, bit for bit. Clips of packed sets,
damaged clips and clips that cannot be read are not kept: the loader reads them from their files and
reports them as always.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from smnet.data.clips import Clip
from smnet.data.loading.dataset import ClipDataset
from smnet.data.loading.transforms import scale_with_torch
from smnet.data.loading.views import ViewPlan, reduced_size
from smnet.data.open import open_video
from smnet.data.packed.read import is_packed
from smnet.data.video.memory import FrameArray
from smnet.data.workers.pool import Lost, ProcessPool
from smnet.errors import UserError
from smnet.system import available_memory

SHARE = 0.25
"""Share of the available memory that kept clips may take."""
_GROUP = 32  # frames that are scaled in one call

Frames = NDArray[np.uint8]


def keep_clips(
    datasets: Sequence[ClipDataset],
    workers: int,
    share: float = SHARE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[int, int]:
    """Decode the clips of data sets into :attr:`ClipDataset.kept`, until memory is used up.

    Frames are kept at the short side of the plan where the views allow it (tests, and training with
    ``scale_first``), else at full size.

    Args:
        datasets: the data sets; call this before their loaders are used.
        workers: decoding processes; 0 decodes in this one.
        share: largest share of the available memory to take.
        progress: called with (clips looked at, clips in all).

    Returns:
        The number of kept clips and their bytes.
    """
    limit = int(share * available_memory())
    todo = [
        (dataset, index, clip)
        for dataset in datasets
        for index, clip in enumerate(dataset.clips)
        if not is_packed(clip.path)
    ]
    if "fork" not in multiprocessing.get_all_start_methods():
        return 0, 0  # every worker would hold a copy
    items = [(clip, dataset.plan) for dataset, _, clip in todo]
    work = partial(decode_whole, limit=limit)
    kept = size = 0
    pool = ProcessPool(
        work,
        max(workers, 1),
        window=4 * max(workers, 1),
        queue=1,
        prepare=partial(torch.set_num_threads, 1),  # OpenMP's threads do not survive a fork
    )
    with pool:
        results = pool.map(items) if workers else map(work, items)
        for (dataset, index, _), video in zip(todo, results, strict=True):
            if video is None or isinstance(video, Lost):
                continue
            size += video.frames.nbytes
            if size > limit:
                size -= video.frames.nbytes
                break
            dataset.kept[index] = video
            kept += 1
            progress(kept, len(todo))
    return kept, size


def decode_whole(item: tuple[Clip, ViewPlan], limit: int) -> FrameArray | None:
    """All frames of a clip and their times; None if it is damaged, larger than ``limit`` bytes, or
    lacks the times that its plan needs."""
    clip, plan = item
    try:
        with open_video(clip.path, clip.template, part=clip.part, decoder=plan.decoder) as video:
            count = (clip.num_frames if clip.part is None else None) or video.num_frames
            if count > video.num_frames:
                return None  # an error, which the loader reports
            frames: Frames | None = None
            group: list[tuple[int, Frames]] = []
            for number, frame in video.each(list(range(count))):
                if frames is None:
                    whole = plan.train and not plan.scale_first
                    size = (
                        frame.shape[:2]
                        if whole
                        else reduced_size(frame.shape[0], frame.shape[1], plan)
                    )
                    if count * size[0] * size[1] * 3 > limit:
                        return None
                    frames = np.empty((count, *size, 3), np.uint8)
                group.append((number, frame))
                if len(group) == _GROUP:
                    _store(frames, group)
            if frames is not None and group:
                _store(frames, group)
            timeless = plan.rate is not None and video.times is None and not video.fps
            if frames is None or video.damage or video.missing or timeless:
                return None
            return FrameArray(frames, video.times, video.fps)
    except (UserError, MemoryError):
        return None


def _store(frames: Frames, group: list[tuple[int, Frames]]) -> None:
    """Scale a group of frames into their places, and empty it."""
    numbers, pictures = zip(*group, strict=True)
    frames[list(numbers)] = scale_with_torch(pictures, *frames.shape[1:3])
    group.clear()
