"""Runs whose number of processes changes: resumed with another one, or restarted by torchrun.

The clips of a step stay the same where the number of processes divides them, so the learning rate
and the order of the clips stay too. The run is then the same up to rounding and to the statistics
of BatchNorm, which are those of a process's own clips.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import torch

from smnet.errors import UserError
from smnet.recipes.recipe import Recipe


def launch() -> str:
    """The id of torchrun's job, the same after a restart; "" where torchrun has none."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "")
    return "" if name == "none" else name


def restarted(folder: Path) -> bool:
    """Whether torchrun starts this process again for a run in ``folder`` that it started before."""
    if not (folder / "resume.pt").is_file():
        return False
    again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    return again or (launch() != "" and saved_launch(folder)[1] == launch())


def saved_launch(folder: Path) -> tuple[int, str]:
    """The number of processes that saved a run, and the :func:`launch` of these."""
    path = folder / "resume.pt"
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return len(saved["generators"]), str(saved["state"].get("launch", ""))
    except (OSError, RuntimeError, LookupError, TypeError, AttributeError, EOFError):
        return 0, ""  # load_state says what is wrong with the file
    except pickle.UnpicklingError:
        return 0, ""


def batch_per_process(recipe: Recipe, then: int, now: int) -> tuple[int, str]:
    """Clips per step and process for a run that another number of processes resumes.

    Args:
        recipe: of the run; its ``batch`` is that of ``then`` processes.
        then: processes that saved the run; 0 if unknown.
        now: processes of this run.

    Returns:
        The batch, and a line for the user; "" where nothing changes.

    Raises:
        UserError: more processes than clips in a step.
    """
    if then in (0, now):
        return recipe.batch, ""
    whole = recipe.batch * then
    batch = whole // now
    if not batch:
        raise UserError(
            f"{now} processes cannot share a step of {whole} clips; start at most {whole} processes"
        )
    line = f"processes: {now} in place of {then}, {batch} clips each, {batch * now} per step"
    if batch * now == whole:
        return batch, f"{line} as before"
    return batch, f"{line} in place of {whole}; the learning rate follows"
