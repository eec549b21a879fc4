"""The state of a training run on disk: ``resume.pt``, from which a run continues bit for bit."""

from __future__ import annotations

import copy
import pickle
import secrets
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from smnet.distributed import Processes
from smnet.errors import UserError
from smnet.files import atomic_path
from smnet.models import VideoModel
from smnet.recipes.recipe import Recipe, dump_recipe, other_values, read_yaml
from smnet.training.elastic import batch_per_process, launch


@dataclass
class RunState:
    """The counters of a run.

    Attributes:
        epoch: number of completed epochs.
        batch: number of completed batches of the current epoch, per process. It equals the length
            of the epoch between training and validation.
        step: number of optimiser steps since the start.
        meter: running sums of the current epoch, of this process.
        best: metrics of the best validation so far.
        data: see :func:`smnet.training.setup.data_fingerprint`.
        improved: the epoch after which the validation top-1 was higher than ever before.
        run_id: identifies the run at experiment trackers.
        launch: see :func:`smnet.training.elastic.launch`.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    meter: tuple[float, ...] = ()
    best: dict[str, Any] | None = None
    data: dict[str, Any] = field(default_factory=dict)
    improved: int = 0
    run_id: str = field(default_factory=partial(secrets.token_hex, 4))
    launch: str = ""


@dataclass
class Learner:
    """Everything that training changes, besides the counters.

    Attributes:
        model: the plain model, without DDP or ``torch.compile`` around it.
        ema: its moving average, if the recipe asks for one.
        optimizer: over the parameters of ``model``.
        scaler: the loss scaler; inactive except with fp16.
        mixing: CPU generator of mixup, CutMix and RandAugment.
    """

    model: VideoModel
    ema: AveragedModel | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    mixing: torch.Generator

    @property
    def averaged(self) -> VideoModel:
        """The model that is validated and saved: the moving average if there is one."""
        if self.ema is None:
            return self.model
        average: VideoModel = self.ema.module  # type: ignore[assignment]
        return average


def moving_average(model: VideoModel, decay: float) -> AveragedModel:
    """The exponential moving average of all weights and running statistics of a model."""
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def save_state(
    folder: Path, recipe: Recipe, state: RunState, learner: Learner, processes: Processes
) -> None:
    """Write ``resume.pt`` to ``folder``. All processes call this; rank 0 writes.

    Raises:
        UserError: the file cannot be written. The previous one is kept.
    """
    meters = processes.gather(state.meter)
    generators = processes.gather(
        {
            "torch": torch.get_rng_state(),
            "mixing": learner.mixing.get_state(),
            "cuda": torch.cuda.get_rng_state() if processes.device.type == "cuda" else None,
        }
    )
    if not processes.first:
        return
    everything = {
        "state": {**copy.deepcopy(vars(state)), "launch": launch()},
        "recipe": dump_recipe(recipe),
        "model": learner.model.state_dict(),
        "ema": None if learner.ema is None else learner.ema.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "scaler": learner.scaler.state_dict(),
        "generators": generators,
        "meters": meters,
    }
    with atomic_path(folder / "resume.pt") as temporary, temporary.open("wb") as file:
        try:
            torch.save(everything, file)
        except RuntimeError as error:  # PyTorch hides the error of the disk behind its own
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_state(
    folder: Path, recipe: Recipe, learner: Learner, processes: Processes, data: dict[str, Any]
) -> RunState:
    """Restore a run from ``resume.pt`` in ``folder``.

    Args:
        folder: folder of the run.
        recipe: its recipe. With ``on_error=skip`` the clips may differ if the classes are equal.
        learner: receives the saved weights, optimiser and generators.
        processes: this process among the others.
        data: fingerprint of the data set now.

    Returns:
        The counters; ``data`` is the fingerprint of the data set at the time of saving.

    Raises:
        UserError: the file is missing or damaged, or was saved with another recipe or another data
            set.
    """
    path = folder / "resume.pt"
    if not path.is_file():
        raise UserError(f"{folder}: no run to resume there (resume.pt is missing)")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        if others := other_values(read_yaml(saved["recipe"]), recipe):
            raise UserError(
                f"{folder}: the run was started with another recipe ({'; '.join(others)}); restore"
                " these values, or start a new run"
            )
        then = saved["state"].get("data") or data  # missing in older files
        check_data(path, then, data, clips_may_vanish=recipe.on_error == "skip")
        learner.model.load_state_dict(saved["model"])
        if learner.ema is not None:
            learner.ema.load_state_dict(saved["ema"])
        learner.optimizer.load_state_dict(saved["optimizer"])
        learner.scaler.load_state_dict(saved["scaler"])
        state = RunState(**{**saved["state"], "data": then})
        world = len(saved["generators"])
        if processes.rank < world:
            _restore_generators(saved["generators"][processes.rank], learner, processes)
        if world != processes.world:
            batch, _ = batch_per_process(recipe, world, processes.world)
            done = state.batch * recipe.batch * world
            state.batch = done // (batch * processes.world)
            sums = zip(*saved.get("meters", [state.meter]), strict=True)
            state.meter = tuple(map(sum, sums)) if processes.first else ()
        elif "meters" in saved:  # older files have the one of rank 0 only
            state.meter = saved["meters"][processes.rank]
        return state
    except UserError:
        raise
    except pickle.UnpicklingError:  # its text advises to load the file without protection
        raise UserError(
            f"{path}: cannot be resumed from (damaged, or not written by smnet)"
        ) from None
    except (
        RuntimeError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        EOFError,
        OSError,
        yaml.YAMLError,
    ) as error:
        reason = str(error).strip().splitlines() or ["unreadable"]
        raise UserError(f"{path}: cannot be resumed from ({reason[0]})") from None


def check_data(
    where: Path, then: dict[str, Any], now: dict[str, Any], clips_may_vanish: bool = False
) -> None:
    """Refuse a data set with another fingerprint than the one a run was trained on.

    With ``clips_may_vanish`` equal class names suffice.
    """
    if then == now or (clips_may_vanish and then["names"] == now["names"]):
        return
    raise UserError(
        f"{where}: {data_difference(then, now)}; restore the data set, or start a new run"
    )


def data_difference(then: dict[str, Any], now: dict[str, Any]) -> str:
    """The difference of two data sets in one line."""
    before, after = (
        f"{d['train']} training and {d['val']} validation clips of {d['classes']} classes"
        for d in (then, now)
    )
    more = " with other paths or labels" if before == after else ""
    return (
        f"the data set has changed since this run was started: before {before}, now {after}{more}"
    )


def _restore_generators(generators: dict[str, Any], learner: Learner, processes: Processes) -> None:
    torch.set_rng_state(generators["torch"])
    learner.mixing.set_state(generators["mixing"])
    if generators["cuda"] is not None and processes.device.type == "cuda":
        torch.cuda.set_rng_state(generators["cuda"])
