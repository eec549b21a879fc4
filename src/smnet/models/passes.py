"""The passes of SMNet's module over its features: in PyTorch, and compiled."""

from __future__ import annotations

import torch
from torch import Tensor

from . import native
from .excitation import excited_sum, mean_and_max
from .layers import as_films, as_frames, depthwise_temporal_conv


class Passes:
    """Z = K_t * X and what is asked of it; Y = Z A + X B. Channels innermost, in PyTorch.

    Args:
        x: X, (B*T, C, H, W), channels last.
        taps: K_t, (C, 3).
        num_segments: T.
    """

    def __init__(self, x: Tensor, taps: Tensor, num_segments: int) -> None:
        self.x = x
        self.taps = taps
        self.num_segments = num_segments
        self._z: Tensor | None = None
        self._is_top: Tensor | None = None

    @property
    def z(self) -> Tensor:
        """Z, made when it is first asked for."""
        if self._z is None:
            self._z = depthwise_temporal_conv(self.x, self.taps, self.num_segments)
        return self._z

    def seen(self) -> Tensor:
        """Mean and maximum of Z over the channels, (B*T, 2, H, W)."""
        return mean_and_max(self.z)

    def excited(self, scale: Tensor, gate: Tensor, last: bool = False) -> Tensor:
        """Y from A (B*T, 1, H, W) and B (B*T, C, 1, 1); ``last``: nothing else will be asked."""
        return excited_sum(
            self.z, scale, self.x, gate, out=self.z if last else torch.empty_like(self.x)
        )

    def excitation_gradient(self, grad: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From dY: dA, dB, and in how many channels Z is at its maximum, (B*T, 1, H, W)."""
        spare = torch.mul(grad, self.x)  # its memory serves for each map made only to be summed
        of_gate = spare.sum((2, 3), keepdim=True)
        of_scale = torch.mul(grad, self.z, out=spare).sum(1, keepdim=True)
        self._is_top = torch.eq(self.z, seen[:, 1:], out=spare)
        return of_scale, of_gate, self._is_top.sum(1, keepdim=True)

    def input_gradient(
        self,
        grad: Tensor,
        scale: Tensor,
        gate: Tensor,
        seen: Tensor,
        everywhere: Tensor,
        at_top: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """dX and dK_t (C, 3) from dY, after :meth:`excitation_gradient`; nothing else after it.

        Args:
            grad: dY.
            scale: A.
            gate: B.
            seen: of :meth:`seen`.
            everywhere: what the mean passes to each channel of Z, (B*T, 1, H, W).
            at_top: what the maximum passes to each channel that has it, the same.
        """
        assert self._is_top is not None
        grad_z = torch.addcmul(everywhere, grad, scale, out=self.z).addcmul_(self._is_top, at_top)
        self._z = self._is_top = None
        grad_x, grad_taps, _ = torch.ops.aten.convolution_backward(
            as_films(grad_z, self.num_segments),
            as_films(self.x, self.num_segments),
            self.taps[:, None, :, None].to(grad.dtype),
            None,
            (1, 1),
            (1, 0),
            (1, 1),
            False,
            [0, 0],
            self.x.shape[1],
            [True, True, False],
        )
        return as_frames(grad_x, self.x).addcmul_(grad, gate), grad_taps[:, 0, :, 0]


class CompiledPasses(Passes):
    """The same by ``native.c``, which never stores Z."""

    def __init__(self, x: Tensor, taps: Tensor, num_segments: int) -> None:
        super().__init__(x, taps, num_segments)
        self._by_tap = taps.detach().to(x.dtype).t().contiguous()
        self._zeros = x.new_zeros(x.shape[1])

    def seen(self) -> Tensor:
        frames, _, height, width = self.x.shape
        seen = self.x.new_empty(frames, 2, height, width)
        self._run("pool", self.x, self._by_tap, self._zeros, seen, None)
        return seen

    def excited(self, scale: Tensor, gate: Tensor, last: bool = False) -> Tensor:
        y = torch.empty_like(self.x)
        small = (scale.contiguous(), gate.contiguous())
        self._run("excite", self.x, self._by_tap, self._zeros, *small, y)
        return y

    def excitation_gradient(self, grad: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        of_scale, ties = torch.empty_like(seen[:, :1]), torch.empty_like(seen[:, :1])
        frames, channels = self.x.shape[:2]
        segments = self.num_segments
        parts = self.x.new_empty(frames // segments, native.CHUNKS, segments, channels)
        inputs = (_like_features(grad), self.x, self._by_tap, self._zeros, seen)
        self._run("excitation_gradient", *inputs, of_scale, parts, ties)
        return of_scale, parts.sum(1).view(-1, channels, 1, 1), ties

    def input_gradient(
        self,
        grad: Tensor,
        scale: Tensor,
        gate: Tensor,
        seen: Tensor,
        everywhere: Tensor,
        at_top: Tensor,
    ) -> tuple[Tensor, Tensor]:
        grad_x = torch.empty_like(self.x)
        clips, channels = len(self.x) // self.num_segments, self.x.shape[1]
        parts = self.x.new_empty(clips * native.CHUNKS, 3, channels)
        small = [t.contiguous() for t in (scale, gate, seen, everywhere, at_top)]
        inputs = (_like_features(grad), self.x, self._by_tap, self._zeros, *small)
        if self._run("input_gradient", *inputs, grad_x, parts):
            raise MemoryError("no memory for the gradient of SMNet's module")
        return grad_x, parts.sum(0).t()

    def _run(self, name: str, *tensors: Tensor | None) -> int:
        return native.run(name, self.x, self.num_segments, *tensors)


class OperatorPasses(Passes):
    """Those of :class:`CompiledPasses` that go without gradients, as operators of PyTorch: its own
    compiler calls them as they are, where it would make slower ones from the equations."""

    def seen(self) -> Tensor:
        seen: Tensor = _seen(self.x, self.taps, self.num_segments)
        return seen

    def excited(self, scale: Tensor, gate: Tensor, last: bool = False) -> Tensor:
        y: Tensor = _excited(self.x, self.taps, scale, gate, self.num_segments)
        return y


@torch.library.custom_op("smnet::seen", mutates_args=())
def _seen(x: Tensor, taps: Tensor, num_segments: int) -> Tensor:
    return CompiledPasses(x, taps, num_segments).seen()


@_seen.register_fake
def _(x: Tensor, taps: Tensor, num_segments: int) -> Tensor:
    return x.new_empty(x.shape[0], 2, x.shape[2], x.shape[3])


@torch.library.custom_op("smnet::excited", mutates_args=())
def _excited(x: Tensor, taps: Tensor, scale: Tensor, gate: Tensor, num_segments: int) -> Tensor:
    return CompiledPasses(x, taps, num_segments).excited(scale, gate)


@_excited.register_fake
def _(x: Tensor, taps: Tensor, scale: Tensor, gate: Tensor, num_segments: int) -> Tensor:
    return torch.empty_like(x)


def _like_features(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def passes_over(x: Tensor, taps: Tensor, num_segments: int) -> Passes:
    """The passes that are fastest for these features; arguments as of :class:`Passes`."""
    if native.has_operators_for(x):
        return OperatorPasses(x, taps, num_segments)
    kind = CompiledPasses if native.knows(x) else Passes
    return kind(x, taps, num_segments)
