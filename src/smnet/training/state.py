"""Where a training run stands, on disk: saved whole, put back bit for bit."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass, field
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


@dataclass
class RunState:
    """The counters of a run.

    Attributes:
        epoch: epochs completed.
        batch: batches of the current epoch that are done; all of them where it is learned and not
            yet measured.
        step: optimiser steps done in all.
        meter: the running sums of the current epoch, of this process.
        best: the best validation result so far.
        data: what is learned from, see :func:`smnet.training.setup.learned_from`.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    meter: tuple[float, ...] = ()
    best: dict[str, Any] | None = None
    data: dict[str, Any] = field(default_factory=dict)


@dataclass
class Learner:
    """All that changes while learning, besides the counters."""

    model: VideoModel
    ema: AveragedModel | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    mixing: torch.Generator

    @property
    def averaged(self) -> VideoModel:
        """The model to evaluate and keep: the moving average, where there is one."""
        if self.ema is None:
            return self.model
        average: VideoModel = self.ema.module  # type: ignore[assignment]
        return average


def moving_average(model: VideoModel, decay: float) -> AveragedModel:
    """An exponential moving average of all weights and running statistics."""
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def save_state(
    folder: Path, recipe: Recipe, state: RunState, learner: Learner, processes: Processes
) -> None:
    """Write ``resume.pt`` in ``folder``. Called by all processes, written by the first.

    Raises:
        UserError: it cannot be written; what stood there stays.
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
        "state": copy.deepcopy(vars(state)),
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
        except RuntimeError as error:  # torch's own, on top of that of the disk
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_state(
    folder: Path, recipe: Recipe, learner: Learner, processes: Processes, data: dict[str, Any]
) -> RunState:
    """Put everything back from ``resume.pt`` in ``folder``.

    Args:
        folder: of the run.
        recipe: of the run. Under its ``on_error=skip`` it may go on with other clips of the same
            classes too.
        learner: takes what was saved.
        processes: this process among the others.
        data: what is learned from now.

    Returns:
        The counters, with what the run learned from until now.

    Raises:
        UserError: it is not there, damaged, or of another recipe, other data or another number of
            processes.
    """
    path = folder / "resume.pt"
    if not path.is_file():
        raise UserError(f"{folder}: no run to resume there (resume.pt is missing)")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        if len(saved["generators"]) != processes.world:
            raise UserError(
                f"{path}: was saved by {len(saved['generators'])} processes, this run has"
                f" {processes.world}; resume with as many"
            )
        if others := other_values(read_yaml(saved["recipe"]), recipe):
            raise UserError(
                f"{folder}: the run was begun by another recipe ({'; '.join(others)}); put it back,"
                " or start another run"
            )
        then = saved["state"].get("data") or data  # older files do not say
        check_data(path, then, data, clips_may_vanish=recipe.on_error == "skip")
        learner.model.load_state_dict(saved["model"])
        if learner.ema is not None:
            learner.ema.load_state_dict(saved["ema"])
        learner.optimizer.load_state_dict(saved["optimizer"])
        learner.scaler.load_state_dict(saved["scaler"])
        generators = saved["generators"][processes.rank]
        torch.set_rng_state(generators["torch"])
        learner.mixing.set_state(generators["mixing"])
        if generators["cuda"] is not None and processes.device.type == "cuda":
            torch.cuda.set_rng_state(generators["cuda"])
        state = RunState(**{**saved["state"], "data": then})
        if "meters" in saved:  # older files have that of the first process alone
            state.meter = saved["meters"][processes.rank]
        return state
    except UserError:
        raise
    except pickle.UnpicklingError:  # its text advises to run code out of the file
        raise UserError(f"{path}: cannot be resumed from (damaged, or not of smnet)") from None
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
    """``UserError`` unless a run learned from what is there now, or at least from its classes."""
    if then == now or (clips_may_vanish and then["names"] == now["names"]):
        return
    raise UserError(f"{where}: {other_data(then, now)}; put it back, or start another run")


def other_data(then: dict[str, Any], now: dict[str, Any]) -> str:
    """In what two data sets differ, in a line."""
    before, after = (
        f"{d['train']} training and {d['val']} validation clips of {d['classes']} classes"
        for d in (then, now)
    )
    more = " that are others, or have other labels" if before == after else ""
    return (
        f"the data set is not the one that this run learned from: then {before}, now {after}{more}"
    )
