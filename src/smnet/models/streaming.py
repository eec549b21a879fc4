"""Endless streams: a causal model sees one frame at a time and carries a state.

The modules of a causal model look back through :class:`~smnet.models.layers.Delay` alone. In a clip
a delay gives the frame before, and zeros before the first frame. In a step it gives what the state
holds under its name and puts the present features there. The state is a flat dict of tensors of at
most four dimensions, so an exported network has it as inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

State = dict[str, Tensor]
"""The tensors that a stream carries from frame to frame, by the names of their delays. ``started``
(B, 1, 1, 1) is 0 before the first frame and 1 afterwards, in models that need to know it."""
STARTED = "started"


class Stream:
    """One step of one batch of streams.

    Args:
        names: the delays of the model, with their names.
        before: the state before the step; None makes a state of zeros.

    Attributes:
        before: the state before the step, in the order in which it is read.
        after: the state after the step.
    """

    def __init__(self, names: Mapping[nn.Module, str], before: Mapping[str, Tensor] | None) -> None:
        self._names, self._given = names, before
        self.before: State = {}
        self.after: State = {}

    def exchange(self, delay: nn.Module, x: Tensor) -> Tensor:
        """Store the features ``x`` (B, ...) of this frame; return those of the frame before."""
        name = self._names[delay]
        self.before[name] = self._read(name, x)
        self.after[name] = x
        return self.before[name]

    def started(self, x: Tensor) -> Tensor:
        """(B, 1, 1, 1): 0 if this is the first frame of a stream, else 1."""
        if STARTED not in self.before:
            self.before[STARTED] = self._read(STARTED, x.new_ones(len(x), 1, 1, 1))
            # Computed from its input: engines refuse outputs that are constants.
            self.after[STARTED] = self.before[STARTED].clamp(min=1)
        return self.before[STARTED]

    def _read(self, name: str, like: Tensor) -> Tensor:
        if self._given is None:
            return torch.zeros_like(like)
        found = self._given.get(name)
        if found is None or found.shape != like.shape:
            shape = "missing" if found is None else f"{tuple(found.shape)}"
            raise ValueError(
                f"the state {name} is {shape}, and this frame needs {tuple(like.shape)}; begin"
                " with initial_state of this batch and size"
            )
        return found


_current: ContextVar[Stream | None] = ContextVar("stream", default=None)


def current_stream() -> Stream | None:
    """The step that is under way in this thread; None inside clips."""
    return None if torch.compiler.is_dynamo_compiling() else _current.get()


@contextmanager
def streaming(stream: Stream) -> Iterator[Stream]:
    """Run the model inside as one step of ``stream``."""
    token = _current.set(stream)
    try:
        yield stream
    finally:
        _current.reset(token)


def state_bytes(state: Mapping[str, Tensor]) -> int:
    """Size of a state, bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())
