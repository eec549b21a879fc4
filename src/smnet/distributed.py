"""One process or several under torchrun: rank, device, and the exchange of small values."""

from __future__ import annotations

import atexit
import functools
import hashlib
import itertools
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from smnet.errors import UserError


@dataclass(frozen=True)
class Processes:
    """This process (``rank``) among the ``world`` processes of a run."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which prints and writes."""
        return self.rank == 0

    def gather(self, item: Any) -> list[Any]:
        """The items of all processes in order of rank, on every process."""
        if self.world == 1:
            return [item]
        items: list[Any] = [None] * self.world
        dist.all_gather_object(items, item)
        return items

    def share(self, tensors: Iterable[torch.Tensor]) -> None:
        """Copy the values of rank 0 to every process, in place."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def share_of(self, count: int) -> float:
        """``count`` divided by its mean over the processes; 0 if all counts are 0.

        As weight of a process in a mean over processes, it gives every clip the same weight.
        """
        if self.world == 1:
            return 1.0 if count else 0.0
        total = torch.tensor([count], dtype=torch.int32, device=self.device)
        dist.all_reduce(total)
        return count * self.world / max(int(total.item()), 1)

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is set in any process."""
        return bool(self.largest(int(flag)))

    def largest(self, number: int) -> int:
        """The largest of the processes' numbers, on every process."""
        if self.world == 1:
            return number
        numbers = torch.tensor([number], dtype=torch.int32, device=self.device)
        dist.all_reduce(numbers, dist.ReduceOp.MAX)
        return int(numbers.item())


@contextmanager
def join(device: str) -> Iterator[Processes]:
    """Join the process group of torchrun, or run as a single process.

    Args:
        device: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    place = choose_device(device)
    if world == 1:
        yield Processes(place)
        return
    if place.type == "cuda":
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(place)
    # Each group has a prefix: a second group in the same store would read the addresses of the
    # first and wait for them for ever.
    store = dist.PrefixStore(f"smnet-{next(_groups)}", _store(rank, world))
    backend = "nccl" if place.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world)
    # DDP holds a reference to the group. If that were the last one, its release would wait for the
    # thread of the group, which waits for the interpreter's lock: a deadlock. So it is kept here.
    if not _past:
        atexit.register(_wait_for_threads)
    _past.append(dist.group.WORLD)
    try:
        yield Processes(place, rank, world)
    finally:
        dist.destroy_process_group()


_groups = itertools.count()
_past: list[Any] = []


def _wait_for_threads() -> None:
    """Let the threads of past groups finish.

    A thread that takes the interpreter's lock during shutdown aborts the process.
    """
    time.sleep(0.2)


@functools.cache
def _store(rank: int, world: int) -> dist.Store:
    """The store of torchrun, by its environment variables."""
    return next(dist.rendezvous("env://", rank, world))[0]


def says_first(line: str) -> bool:
    """Whether this is the first process of torchrun that reports ``line``.

    Errors that all processes meet are printed once. True without a store.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return True
    digest = hashlib.sha256(line.encode(errors="backslashreplace")).hexdigest()
    try:
        store = _store(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
        return bool(store.add(f"smnet-said-{digest}", 1) == 1)
    except RuntimeError:  # the agent has ended
        return True


def choose_device(name: str) -> torch.device:
    """The device called ``name``, if it can be used; ``"auto"`` is a GPU if there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"no device is called {name!r}; use auto, cpu, cuda or cuda:1") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device={name}: this PyTorch sees no GPU; use device=cpu")
    if device.type == "cuda" and device.index is None:
        return device  # the index follows from the rank
    try:
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:  # unsupported, wrong index, or out of memory
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"device={name}: cannot be used here ({reason}); use device=cpu") from None
    return device
