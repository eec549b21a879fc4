"""The channel-wise temporal convolution as int8 engines run it fastest.

Y[t] = W0 X[t-1] + W1 X[t] + W2 X[t+1] is one sum, but engines run what is written. In int8 each of
its multiplications and additions would be rounded to 8 bits and pass over the features by itself:

``"films"``: one depthwise convolution over time, of the frames of a clip seen as one image of T
rows (:func:`~smnet.models.layers.as_films`). For engines that drop the transpositions there and
back, as ONNX Runtime does: 8-bit features are read and written once.

``"shifts"``: the shifted frames are copied, 8 bits each, then multiplied and added at once. For
engines that fuse elementwise arithmetic but not transpositions, as OpenVINO.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import VideoModel
from .layers import TemporalConv, as_films, as_frames, frame_mask
from .smnet import SpatialAttention

TemporalForm = Literal["films", "shifts"]


class EngineTemporalConv(nn.Module):
    """A channel-wise :class:`~smnet.models.layers.TemporalConv` in one of the forms above.

    Shape:
        x (B*T, C, H, W) -> (B*T, C, H, W); ``weight`` is (C, 1, 3).
    """

    def __init__(self, layer: TemporalConv, form: TemporalForm) -> None:
        super().__init__()
        self.weight = layer.weight
        self.form = form

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        # The tracer mistakes the layout of maps of one pixel; there is nothing to gain there.
        if self.form == "films" and x.shape[2] * x.shape[3] > 1:
            kernel = self.weight[..., None]  # (C, 1, 3, 1)
            y = F.conv2d(as_films(x, num_segments), kernel, padding=(1, 0), groups=x.shape[1])
            return as_frames(y, x)
        if num_segments == 1:
            return x * self.weight[:, 0, 1, None, None]
        past, present, future = self.weight[:, 0, :, None, None].unbind(1)  # (C, 1, 1) each
        past = past * frame_mask(x, num_segments, first=True)
        future = future * frame_mask(x, num_segments, last=True)
        none = torch.zeros_like(x[:1])
        before, after = torch.cat([none, x[:-1]]), torch.cat([x[1:], none])
        return x * present + before * past + after * future


def set_temporal_form(model: VideoModel, form: TemporalForm) -> None:
    """Put every channel-wise temporal convolution of a model into a form; it can still be run.

    So are SMNet's masks: frames that stand in for channels are put there by a reshaping, which
    engines for ``"shifts"`` pay for.
    """
    for parent in list(model.modules()):
        if isinstance(parent, SpatialAttention):
            parent.by_frames = form == "films"
        for name, child in parent.named_children():
            if isinstance(child, TemporalConv) and child.weight.shape[1:] == (1, 3):
                setattr(parent, name, EngineTemporalConv(child, form))
