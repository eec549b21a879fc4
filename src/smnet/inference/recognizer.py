"""Prediction: video in, labelled scores out."""

from __future__ import annotations

import glob
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnet.checkpoints.metadata import view_plan
from smnet.data.annotations.listing import visible
from smnet.data.annotations.places import is_image, is_video
from smnet.data.loading.views import Damage
from smnet.data.workers.pool import TIME_LIMIT
from smnet.data.workers.prefetch import Job, Prefetcher
from smnet.errors import UserError
from smnet.inference.backends import Backend, check_crops, open_backend
from smnet.system import available_cores

_Views = tuple[NDArray[np.uint8], Damage]


@dataclass(frozen=True)
class Prediction:
    """Scores of one video.

    Attributes:
        path: the video.
        labels: class names, best first.
        scores: their probabilities, falling, summing to at most 1 over all classes.
        error: why there are none; empty if there are.
        damage: packets and frames that were lost or marred, of those that were tried; other frames
            stand for them.
    """

    path: str
    labels: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    error: str = ""
    damage: int = 0

    @property
    def label(self) -> str:
        """The best class name."""
        return self.labels[0] if self.labels else ""

    @property
    def score(self) -> float:
        """Its probability."""
        return self.scores[0] if self.scores else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        if self.error:
            return {"path": self.path, "error": self.error}
        pairs = zip(self.labels, self.scores, strict=True)
        return {
            "path": self.path,
            "label": self.label,
            "score": round(self.score, 6),
            "top": [{"label": label, "score": round(score, 6)} for label, score in pairs],
            **({"damage": self.damage} if self.damage else {}),
        }


@dataclass
class Utilisation:
    """What kept a run of :meth:`Recognizer.predict_many` busy, in seconds.

    Attributes:
        clips: videos answered for, readable or not.
        threads: that decode.
        network: in which the network ran.
        waiting: in which it could not, for the next videos were not decoded yet.
        decoding: of all decoding threads together.
        elapsed: from the beginning to the last answer, those of the caller between answers too, in
            which decoding goes on.
    """

    clips: int = 0
    threads: int = 0
    network: float = 0.0
    waiting: float = 0.0
    decoding: float = 0.0
    elapsed: float = 0.0

    @property
    def wall(self) -> float:
        """Seconds for all, those of the caller between answers left out."""
        return self.network + self.waiting

    def __str__(self) -> str:
        wall = max(self.wall, 1e-9)
        share = self.decoding / max(self.elapsed, wall) / max(self.threads, 1)
        if self.elapsed - wall > max(self.network, self.waiting):
            limit = "what takes the answers is the limit"
        elif self.network < self.waiting:
            limit = "decoding is the limit"
        elif share < 0.75:
            limit = "the network is the limit"
        else:  # on the same cores each looks busy while the other works
            limit = "both are the limit"
        return (
            f"{self.clips} clips in {wall:.1f} s, {self.clips / wall:.1f} clips/s: network busy"
            f" {self.network / wall:.0%}, {self.threads} decoding"
            f" thread{'s' * (self.threads != 1)} {min(share, 1):.0%};"
            f" {limit}"
        )


class Recognizer:
    """A trained model with everything it needs to name what happens in a video.

    Example:
        >>> recognizer = Recognizer.load("runs/mine/best.safetensors")  # doctest: +SKIP
        >>> recognizer.predict("clip.mp4").label                        # doctest: +SKIP
        'Pushing something from left to right'
    """

    def __init__(self, backend: Backend, views: tuple[int, int] = (1, 1)):
        spec = backend.spec
        self.backend = backend
        self.classes = spec.class_names or tuple(str(i) for i in range(spec.num_classes))
        self.plan = view_plan(spec, *views)
        check_crops(backend, self.plan)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        device: str = "auto",
        views: tuple[int, int] = (1, 1),
        backend: str | None = None,
    ) -> Recognizer:
        """Load a checkpoint, the best one of a run's folder, or an exported file.

        Args:
            path: a ``.safetensors`` checkpoint, a folder that ``smnet train`` wrote,
                ``hf://owner/name`` on the hub, or an ``.onnx`` or ``.xml`` file of
                ``smnet export``.
            device: ``"auto"``, ``"cpu"``, ``"cuda"`` ...
            views: clips x crops averaged for every video.
            backend: what runs the network: ``"torch"`` or ``"compile"`` a checkpoint,
                ``"onnxruntime"`` or ``"openvino"`` an exported file, which needs no PyTorch. None
                is what the file is for.

        Raises:
            UserError: no such file, backend or device.
        """
        return cls(open_backend(path, device, backend), views)

    def predict(self, source: str | os.PathLike[str], top: int = 5) -> Prediction:
        """Name what happens in one video (a file, or a folder of frames).

        Raises:
            UserError: the video cannot be read.
        """
        (prediction,) = self.predict_many([source], top)
        if prediction.error:
            raise UserError(prediction.error)
        return prediction

    def predict_many(
        self,
        sources: Iterable[str | os.PathLike[str]],
        top: int = 5,
        batch: int = 8,
        workers: int | None = None,
        used: Utilisation | None = None,
        timeout: float = TIME_LIMIT,
    ) -> Iterator[Prediction]:
        """Name what happens in many videos, in their order, without holding them all.

        Several videos go through the network together, while others are decoded ahead of it. A
        video that cannot be read gives a :class:`Prediction` with its ``error``.

        Args:
            sources: paths of videos or folders of frames; may be endless.
            top: how many classes to report.
            batch: videos that go through the network together.
            workers: decoding threads; None is one a core, at most 8.
            used: takes the time that decoding and the network take.
            timeout: seconds for one video, after which it counts as unreadable.

        Raises:
            UserError: ``top``, ``batch`` or ``workers`` below 1.
        """
        threads = min(available_cores(), 8) if workers is None else workers
        for name, number in (("top", top), ("batch", batch), ("workers", threads)):
            if number < 1:
                raise UserError(f"{name} is {number}; it must be at least 1")
        used = used if used is not None else Utilisation()
        used.threads = threads
        waiting: deque[Job[_Views]] = deque()
        paths = (os.fspath(source) for source in sources)
        with Prefetcher(self._read, threads, timeout) as prefetcher:
            began = time.perf_counter() - used.elapsed
            exhausted = False
            while True:
                while not exhausted and len(waiting) < 2 * batch + threads:
                    path = next(paths, None)
                    if path is None:
                        exhausted = True
                    else:
                        waiting.append(prefetcher.submit(path))
                if not waiting:
                    return
                group = [waiting.popleft() for _ in range(min(batch, len(waiting)))]
                answers = self._score(prefetcher, group, top, used)
                used.elapsed = time.perf_counter() - began
                yield from answers

    def _read(self, path: str) -> _Views:
        damage = Damage()
        return self.backend.read(path, self.plan, damage), damage

    def _score(
        self, prefetcher: Prefetcher[_Views], group: list[Job[_Views]], top: int, used: Utilisation
    ) -> list[Prediction]:
        began = time.perf_counter()
        answers: dict[int, Prediction] = {}
        read: dict[int, _Views] = {}
        for number, job in enumerate(group):
            try:
                read[number] = prefetcher.result(job)
            except UserError as error:
                answers[number] = Prediction(job.path, error=str(error))
            used.decoding += job.seconds
        ready = time.perf_counter()
        if read:
            scores = self.backend.score(np.stack([views for views, _ in read.values()]))
            best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
            for row, (number, (_, damage)) in enumerate(read.items()):
                answers[number] = Prediction(
                    group[number].path,
                    tuple(self.classes[i] for i in best[row]),
                    tuple(scores[row, best[row]].tolist()),
                    damage=damage.count,
                )
        used.clips += len(group)
        used.waiting += ready - began
        used.network += time.perf_counter() - ready
        return [answers[number] for number in range(len(group))]


def find_videos(sources: Sequence[str]) -> list[str]:
    """Paths of all videos that the words of a command line mean, in order, each once.

    A word is a video file; a folder: the videos in it and below it, a folder with images and no
    video being one, of frames; a pattern with ``*`` or ``?``; or ``@list.txt``, a file
    with a path a line.

    A file that is not there is returned too, to be told of beside the answers for the others.

    Raises:
        UserError: a word that means nothing, or none that is there.
    """
    found: dict[str, None] = {}
    for word in sources:
        if not word:
            raise UserError("an empty name was given for a video or a folder")
        if word.startswith("@"):
            found.update(dict.fromkeys(_listed(word[1:])))
        elif Path(word).is_dir():
            found.update(dict.fromkeys(_in_folder(Path(word))))
        elif any(c in word for c in "*?[") and not Path(word).exists():
            matches = sorted(glob.glob(word, recursive=True))
            if not matches:
                raise UserError(f"{word}: no file matches this pattern")
            found.update(dict.fromkeys(m for m in find_videos(matches)))
        else:
            found[word] = None
    if not any(map(os.path.exists, found)):
        raise UserError(f"{next(iter(found))}: no such file or folder")
    return list(found)


def _in_folder(folder: Path) -> list[str]:
    videos: list[str] = []
    unreadable: list[str] = []  # answered for as a file that may not be read is
    for path, folders, files in os.walk(folder, onerror=lambda e: unreadable.append(e.filename)):
        names = sorted(filter(visible, files))
        films = [name for name in names if is_video(name)]
        if not films and any(map(is_image, names)):
            videos.append(path)
            folders.clear()
            continue
        folders[:] = sorted(filter(visible, folders))
        videos += [str(Path(path, name)) for name in films]
    if not videos and not unreadable:
        raise UserError(f"{folder}: no videos below this folder")
    return videos + unreadable


def _listed(path: str) -> list[str]:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a list of videos ({error})") from None
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise UserError(f"{path}: an empty list")
    return names
