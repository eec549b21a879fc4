"""The temporal sum as inference engines run it fastest.

Y[t] = K_0 X[t-1] + K_1 X[t] + K_2 X[t+1] is one sum, but engines run the operators as written. In
int8 each multiplication and addition is rounded to 8 bits and passes over the features by itself.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..layers import TemporalSum, is_clip_end
from .operators import rows_as_time, time_as_rows


class MaskedSum(TemporalSum):
    """Plain multiplications and additions. The weights are masked at the ends of the clips, not the
    features, which are much larger. For compilers and engines without a form of their own."""

    def forward(self, x: Tensor, taps: Tensor, num_segments: int) -> Tensor:
        return masked_sum(x, taps, num_segments)


def masked_sum(x: Tensor, taps: Tensor, num_segments: int) -> Tensor:
    """:class:`MaskedSum` as a function."""
    past, present, future = taps.to(x.dtype)[..., None, None].unbind(-3)
    if num_segments == 1:  # slices would fix the number of clips in an exported program
        return x * present
    past = past * _inside(x, num_segments, first=False)
    future = future * _inside(x, num_segments, first=True)
    zeros = torch.zeros_like(x[:1])
    y = x * present + torch.cat([zeros, (x * past)[:-1]])
    return y + torch.cat([(x * future)[1:], zeros])


class RowsSum(MaskedSum):
    """One depthwise convolution over time, of a clip seen as an image of T rows.

    For engines that remove a pair of transpositions, as ONNX Runtime does: 8-bit features are read
    and written once.
    """

    def forward(self, x: Tensor, taps: Tensor, num_segments: int) -> Tensor:
        # The exporter mistakes the layout of maps of one pixel; there is nothing to gain there.
        if taps.dim() != 2 or x.shape[2] * x.shape[3] == 1:
            return super().forward(x, taps, num_segments)
        kernel = taps[:, None, :, None]  # (C, 1, 3, 1)
        rows = time_as_rows(x, num_segments)
        return rows_as_time(F.conv2d(rows, kernel, padding=(1, 0), groups=x.shape[1]), x)


class PlanarRowsSum(MaskedSum):
    """:class:`RowsSum` with every channel a plane of T rows.

    For engines that keep fp32 features in blocks of channels, as ONNX Runtime does: whole planes
    move, and the convolution runs on blocks.
    """

    def forward(self, x: Tensor, taps: Tensor, num_segments: int) -> Tensor:
        if taps.dim() != 2 or x.shape[2] * x.shape[3] == 1:
            return super().forward(x, taps, num_segments)
        kernel = taps.to(x.dtype)[:, None, :, None]  # (C, 1, 3, 1)
        channels, height, width = x.shape[1:]
        planes = x.reshape(-1, num_segments, channels, height * width).transpose(1, 2)
        rows = F.conv2d(planes, kernel, padding=(1, 0), groups=channels)
        return rows.transpose(1, 2).reshape(-1, channels, height, width)


class ShiftedSum(MaskedSum):
    """The shifted frames are copied, 8 bits each, then multiplied and added at once.

    For engines that fuse elementwise arithmetic but not transpositions, as OpenVINO does.
    """

    def forward(self, x: Tensor, taps: Tensor, num_segments: int) -> Tensor:
        if taps.dim() != 2 or num_segments == 1:
            return super().forward(x, taps, num_segments)
        past, present, future = taps[..., None, None].unbind(-3)  # (C, 1, 1) each
        past = past * _inside(x, num_segments, first=True)
        future = future * _inside(x, num_segments, first=False)
        # The outer frames have weights of zero. Frames of zeros would make the copy fp32 in int8.
        frames = torch.cat([x[:1], x, x[-1:]])
        return x * present + frames[:-2] * past + frames[2:] * future


def _inside(x: Tensor, num_segments: int, *, first: bool) -> Tensor:
    """Ones (B*T, 1, 1, 1), with zeros at the first or last frame of each clip."""
    return (~is_clip_end(x, num_segments, first=first)).to(x.dtype)
