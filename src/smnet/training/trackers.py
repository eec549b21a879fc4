"""Scalars of a run for experiment trackers: TensorBoard, Trackio, Weights & Biases."""

from __future__ import annotations

import importlib
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from smnet.errors import UserError, missing_extra
from smnet.recipes.keys import parse_trackers

_EXTRAS = {"tensorboard": "track", "trackio": "trackio", "wandb": "wandb"}


class Tracker(Protocol):
    """Takes numbers by name, such as ``{"val/top1": 0.5}``."""

    def add(self, scalars: dict[str, float], step: int) -> None: ...

    def close(self) -> None: ...


def check_trackers(track: str) -> None:
    """Refuse a tracker that is not installed, before any data are read.

    Raises:
        UserError: with the extra to install.
    """
    for name in parse_trackers(track):
        try:
            importlib.import_module(name)
        except ImportError:
            raise missing_extra(name, _EXTRAS[name]) from None


def open_trackers(
    track: str, folder: Path, recipe: Mapping[str, Any], run_id: str, first_step: int
) -> list[Tracker]:
    """The trackers of a run.

    Args:
        track: the recipe key; ``"auto"`` is TensorBoard where it is installed.
        folder: folder of the run. Its name and its parent's are the names of run and project.
        recipe: plain values of the recipe, shown as the configuration of the run.
        run_id: identifies the run, so that a resumed one is continued.
        first_step: in TensorBoard, scalars of earlier files from this step on are dropped.
    """
    if track == "auto":
        try:
            return [ScalarFile(folder / "tensorboard", first_step)]
        except ImportError:
            return []
    trackers: list[Tracker] = []
    for name in parse_trackers(track):
        if name == "tensorboard":
            trackers.append(ScalarFile(folder / "tensorboard", first_step))
        else:
            trackers.append(HostedRun(name, folder, recipe, run_id))
    return trackers


class HostedRun:
    """A run in Trackio or Weights & Biases, which share one interface.

    Both work offline: Trackio always writes to a local database, wandb with ``WANDB_MODE=offline``.
    """

    def __init__(self, library: str, folder: Path, recipe: Mapping[str, Any], run_id: str) -> None:
        self._module = importlib.import_module(library)
        place = folder.resolve()
        options: dict[str, Any] = {"id": run_id, "dir": str(folder)} if library == "wandb" else {}
        try:
            self._module.init(
                project=place.parent.name or "smnet",
                name=f"{place.name}-{run_id}" if library == "trackio" else place.name,
                config=dict(recipe),
                resume="allow",
                **options,
            )
        except Exception as error:
            raise UserError(
                f"track={library}: {library} does not start ({error}); check its account or its"
                " offline mode, or leave it out of track"
            ) from error

    def add(self, scalars: dict[str, float], step: int) -> None:
        self._module.log(scalars, step=step)

    def close(self) -> None:
        self._module.finish()


class ScalarFile:
    """A TensorBoard event file, written without the thread of TensorBoard's own writer.

    That thread prints a traceback when the disk is full; here the error reaches the caller.

    Args:
        folder: the folder of the event files, created if it does not exist.
        first_step: in TensorBoard, scalars of earlier files from this step on are dropped.

    Raises:
        ImportError: TensorBoard is not installed.
        OSError: the file cannot be written.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{platform.node()}.{os.getpid()}"
        self._file = (folder / name).open("wb")
        self._records = RecordWriter(self._file)
        self._write(file_version="brain.Event:2")
        if first_step > 1:
            log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._write(step=first_step, session_log=log)

    def add(self, scalars: dict[str, float], step: int) -> None:
        """Write numbers by name and flush them to disk."""
        values = [self._summary.Value(tag=tag, simple_value=x) for tag, x in scalars.items()]
        self._write(step=step, summary=self._summary(value=values))
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _write(self, **fields: Any) -> None:
        event = self._event(wall_time=time.time(), **fields)
        self._records.write(event.SerializeToString())
