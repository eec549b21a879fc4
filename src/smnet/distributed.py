"""One process or many (torchrun): who I am, and exchanging small things."""

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
    """This process among the ``world`` of a run."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """The process that prints and writes."""
        return self.rank == 0

    def gather(self, item: Any) -> list[Any]:
        """The items of all processes, in the order of their ranks, on every process."""
        if self.world == 1:
            return [item]
        items: list[Any] = [None] * self.world
        dist.all_gather_object(items, item)
        return items

    def share(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give every process the values that the first has, in place."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def share_of(self, count: int) -> float:
        """``count`` in units of its mean over the processes: with it as its weight in a mean over
        processes, what they have ``count`` of weighs the same everywhere. 0 where none has any."""
        if self.world == 1:
            return 1.0 if count else 0.0
        total = torch.tensor([count], dtype=torch.int32, device=self.device)
        dist.all_reduce(total)
        return count * self.world / max(int(total.item()), 1)

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        if self.world == 1:
            return flag
        told = torch.tensor([flag], dtype=torch.int32, device=self.device)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return bool(told.item())


@contextmanager
def join(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun started, or be the only one.

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
    # Under a name of its own, for a second group in the same store would find the addresses of the
    # first and wait for them for ever.
    store = dist.PrefixStore(f"smnet-{next(_groups)}", _store(rank, world))
    backend = "nccl" if place.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world)
    # A network that exchanges gradients holds the group too. Were it the last to let go of it, it
    # would wait for the group's thread, and that for the interpreter's lock, for ever: the thread
    # may still have to drop tensors of the last exchange.
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
    """Time for the groups' threads to drop what they hold. One that comes for the interpreter's
    lock while the interpreter is taken down aborts the process, at the end of a run that succeeded.
    """
    time.sleep(0.2)


@functools.cache
def _store(rank: int, world: int) -> dist.Store:
    """Where the processes find each other, as torchrun says in the environment."""
    store: dist.Store = next(dist.rendezvous("env://", rank, world))[0]
    return store


def says_first(line: str) -> bool:
    """Whether this is the first of torchrun's processes that says ``line``, so that what all of
    them find is told once. True where nobody keeps count."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return True
    said = hashlib.sha256(line.encode(errors="backslashreplace")).hexdigest()
    try:
        store = _store(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
        return bool(store.add(f"smnet-said-{said}", 1) == 1)
    except RuntimeError:  # the agent that keeps it has gone
        return True


def choose_device(name: str) -> torch.device:
    """The device called ``name``; ``"auto"`` is a GPU if there is one. ``UserError`` if not had."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"no device is called {name!r}; use auto, cpu, cuda or cuda:1") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device={name}: this PyTorch sees no GPU; use device=cpu")
    if device.type == "cuda" and device.index is None:
        return device  # which one is not decided yet
    try:
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:  # not built in, no such number, or no memory
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"device={name}: cannot be used here ({reason}); use device=cpu") from None
    return device
