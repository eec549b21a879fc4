"""The layers against loops and against the operators that the papers name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smnet.models.layers import (
    TemporalConv,
    TemporalSum,
    backward_difference,
    frame_difference,
    is_clip_end,
    partial_shift,
    shift_frames,
)

from .reference import motion_alone, with_difference

FORMATS = [torch.contiguous_format, torch.channels_last]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def frames(
    clips: int = 2,
    segments: int = 4,
    channels: int = 8,
    height: int = 3,
    width: int = 5,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(clips * segments, channels, height, width, generator=generator, dtype=dtype)


def loop(x: Tensor, segments: int, frame: Callable[[Tensor, int], Tensor]) -> Tensor:
    """``frame(clip, t)`` of every clip and t, folded again."""
    clips = x.unflatten(0, (-1, segments))
    return torch.stack([frame(clip, t) for clip in clips for t in range(segments)])


def conv_over_time(x: Tensor, weight: Tensor, segments: int) -> Tensor:
    """The grouped convolution of the articles: a 1-D one on (B*H*W, C, T), or a 3-D one."""
    channels, height, width = x.shape[1:]
    groups = channels // weight.shape[1]
    clips = x.unflatten(0, (-1, segments))  # (B, T, C, H, W)
    if weight.dim() == 5:
        y = F.conv3d(clips.transpose(1, 2), weight, padding=1, groups=groups)
        return y.transpose(1, 2).flatten(0, 1)
    lines = clips.permute(0, 3, 4, 2, 1).reshape(-1, channels, segments)  # (B*H*W, C, T)
    conv = nn.Conv1d(channels, channels, 3, padding=1, groups=groups, bias=False)
    lines = torch.func.functional_call(conv, {"weight": weight}, (lines,))
    y = lines.reshape(-1, height, width, channels, segments).permute(0, 4, 3, 1, 2)
    return y.flatten(0, 1)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("segments", [1, 2, 3, 8])
@pytest.mark.parametrize("space", [1, 3])
@pytest.mark.parametrize("groups", [None, 1, 2, 4, 8])
def test_temporal_conv_is_the_grouped_convolution(
    groups: int | None, space: int, segments: int, memory_format: torch.memory_format
) -> None:
    conv = TemporalConv(8, groups, space).double()
    nn.init.normal_(conv.weight)
    x = frames(segments=segments).to(memory_format=memory_format).requires_grad_()
    reference_x = x.detach().clone().requires_grad_()
    reference_weight = conv.weight.detach().clone().requires_grad_()

    y = conv(x, segments)
    expected = conv_over_time(reference_x, reference_weight, segments)
    weighting = frames(segments=segments, seed=1)
    (y * weighting).sum().backward()
    (expected * weighting).sum().backward()

    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(x.grad, reference_x.grad)
    torch.testing.assert_close(conv.weight.grad, reference_weight.grad)
    assert y.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("groups", [None, 2])
def test_temporal_conv_in_single_precision(groups: int | None) -> None:
    conv = TemporalConv(16, groups)
    nn.init.normal_(conv.weight)
    x = frames(channels=16, dtype=torch.float32)
    expected = conv_over_time(x.double(), conv.weight.detach().double(), 4)
    assert (conv(x, 4) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("groups", [None, 1, 2, 8])
@pytest.mark.parametrize("space", [1, 3])
def test_temporal_conv_starts_as_the_partial_shift_or_as_identity(
    groups: int | None, space: int
) -> None:
    x = frames(channels=16)
    shifting = TemporalConv(16, groups, space).double()
    torch.testing.assert_close(shifting(x, 4), partial_shift(x, 4))
    quarter = TemporalConv(16, groups, space, shift_div=4).double()
    torch.testing.assert_close(quarter(x, 4), partial_shift(x, 4, shift_div=4))
    torch.testing.assert_close(TemporalConv(16, groups, space, init="identity").double()(x, 4), x)


@pytest.mark.parametrize("groups", [None, 1, 2, 8])
@pytest.mark.parametrize("space", [1, 3])
@pytest.mark.parametrize("input_share", [0.0, 1.0])
def test_temporal_conv_starts_with_the_difference(
    groups: int | None, space: int, input_share: float
) -> None:
    x = frames(channels=16)
    conv = TemporalConv(16, groups, space, "difference", input_share=input_share).double()
    expected = with_difference(x, 4) * (1 + input_share)
    torch.testing.assert_close(conv(x, 4) + input_share * x, expected)


@pytest.mark.parametrize("groups", [None, 1, 2, 8])
@pytest.mark.parametrize("space", [1, 3])
@pytest.mark.parametrize("input_share", [0.0, 1.0])
def test_temporal_conv_starts_with_motion_alone(
    groups: int | None, space: int, input_share: float
) -> None:
    x = frames(channels=16)
    conv = TemporalConv(16, groups, space, "motion", input_share=input_share).double()
    torch.testing.assert_close(conv(x, 4) + input_share * x, motion_alone(x, 4))


def test_temporal_conv_parameter_counts() -> None:
    for channels, groups in [(64, None), (64, 2), (256, 32), (64, 1)]:
        per_group = channels if groups is None else groups
        conv = TemporalConv(channels, groups)
        assert conv.weight.numel() == 3 * channels**2 // per_group
        assert TemporalConv(channels, groups, space=3).weight.numel() == 9 * conv.weight.numel()


@pytest.mark.parametrize("groups", [0, 3, 16])
def test_temporal_conv_refuses(groups: int) -> None:
    with pytest.raises(ValueError, match="groups must divide the 8 channels"):
        TemporalConv(8, groups)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("segments", [1, 2, 3])
def test_gradient_against_finite_differences(
    segments: int, memory_format: torch.memory_format
) -> None:
    x = frames(segments=segments, channels=3, height=2, width=2)
    x = x.to(memory_format=memory_format).requires_grad_()
    taps = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(TemporalSum(), (x, taps, segments))


def given_by_frame(x: Tensor, taps: Tensor, segments: int) -> Tensor:
    """Every frame gives to the next, itself and the previous, by weights of its own."""
    y = torch.zeros_like(x)
    for i in range(x.shape[0]):
        for k, step in enumerate((1, 0, -1)):
            if 0 <= i % segments + step < segments:
                y[i + step] += taps[i, :, k, None, None] * x[i]
    return y


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("segments", [1, 2, 3])
def test_taps_of_every_frame(segments: int, memory_format: torch.memory_format) -> None:
    x = frames(segments=segments, channels=3, height=2, width=2)
    x = x.to(memory_format=memory_format).requires_grad_()
    taps = torch.randn(2 * segments, 3, 3, dtype=torch.float64, requires_grad=True)
    y = TemporalSum()(x, taps, segments)
    torch.testing.assert_close(y, given_by_frame(x, taps, segments))
    assert torch.autograd.gradcheck(TemporalSum(), (x, taps, segments))


@pytest.mark.parametrize("needed", ["x", "taps"])
def test_gradient_when_only_one_side_is_learned(needed: str) -> None:
    x, taps = frames(), torch.randn(8, 3, dtype=torch.float64)
    (x if needed == "x" else taps).requires_grad_()
    TemporalSum()(x, taps, 4).sum().backward()
    assert (x.grad is not None) == (needed == "x")
    assert (taps.grad is not None) == (needed == "taps")


def test_gradient_of_an_expanded_output_gradient() -> None:
    # sum() hands back a gradient with zero strides; in-place sums must not write into it.
    x = frames().requires_grad_()
    taps = torch.randn(8, 3, dtype=torch.float64, requires_grad=True)
    TemporalSum()(x, taps, 4).sum().backward()
    grad_x, grad_taps = x.grad, taps.grad
    reference_x = x.detach().clone().requires_grad_()
    reference_taps = taps.detach().clone().requires_grad_()
    conv_over_time(reference_x, reference_taps[:, None], 4).sum().backward()
    torch.testing.assert_close(grad_x, reference_x.grad)
    torch.testing.assert_close(grad_taps, reference_taps.grad)


def test_input_is_left_as_it_was() -> None:
    x = frames()
    before = x.clone()
    TemporalSum()(x, torch.randn(8, 3, dtype=torch.float64), 4)
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_features_keep_their_type(dtype: torch.dtype) -> None:
    # Under autocast the features are half and the weights are not.
    conv = TemporalConv(8)
    nn.init.normal_(conv.weight)
    x = frames().to(dtype).requires_grad_()
    y = conv(x, 4)
    y.sum().backward()
    assert y.dtype == dtype
    assert x.grad is not None
    assert x.grad.dtype == dtype
    assert conv.weight.grad is not None
    assert conv.weight.grad.dtype == torch.float32
    expected = conv_over_time(x.detach().double(), conv.weight.detach().double(), 4)
    torch.testing.assert_close(y.double(), expected, rtol=0.05, atol=0.1)


class Tiny(nn.Module):
    """What a model does around a temporal convolution: fold, convolve, unfold."""

    def __init__(self, groups: int | None) -> None:
        super().__init__()
        self.conv = TemporalConv(8, groups)
        nn.init.normal_(self.conv.weight)

    def forward(self, clips: Tensor) -> Tensor:
        y: Tensor = self.conv(clips.flatten(0, 1), clips.shape[1])
        return y.unflatten(0, (-1, clips.shape[1]))


@pytest.mark.parametrize("groups", [None, 2])
def test_exported_graph_computes_what_eager_does(groups: int | None) -> None:
    model = Tiny(groups).eval()
    clips = torch.randn(2, 4, 8, 3, 5)
    program = torch.export.export(
        model, (clips,), dynamic_shapes={"clips": {0: torch.export.Dim("batch", max=64)}}
    )
    targets = {str(node.target) for node in program.graph.nodes}
    assert not any("autograd" in target for target in targets), "only plain operators may remain"
    for batch in (1, 2, 5):
        clips = torch.randn(batch, 4, 8, 3, 5)
        torch.testing.assert_close(program.module()(clips), model(clips))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_path_computes_what_eager_does() -> None:
    model = Tiny(None).double()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    clips = torch.randn(2, 4, 8, 3, 5, dtype=torch.float64, requires_grad=True)
    y = compiled(clips)
    (y**2).sum().backward()
    grad, grad_weight = clips.grad, model.conv.weight.grad
    clips.grad = model.conv.weight.grad = None
    expected = model(clips)
    (expected**2).sum().backward()
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(grad, clips.grad)
    torch.testing.assert_close(grad_weight, model.conv.weight.grad)


@pytest.mark.parametrize("segments", [1, 2, 3, 5])
@pytest.mark.parametrize("by", [1, -1])
def test_shift_frames(by: int, segments: int) -> None:
    x = frames(segments=segments)

    def frame(clip: Tensor, t: int) -> Tensor:
        return clip[t - by] if 0 <= t - by < segments else torch.zeros_like(clip[t])

    assert torch.equal(shift_frames(x, by, segments), loop(x, segments, frame))


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("segments", [1, 2, 4])
def test_ends_of_clips(first: bool, segments: int) -> None:
    ends = is_clip_end(frames(clips=3, segments=segments), segments, first=first)
    assert ends.shape == (3 * segments, 1, 1, 1)
    for i, end in enumerate(ends.flatten().tolist()):
        assert end == (i % segments == (0 if first else segments - 1))


@pytest.mark.parametrize("shift_div", [2, 4, 8])
@pytest.mark.parametrize("segments", [1, 2, 5])
def test_partial_shift(shift_div: int, segments: int) -> None:
    x = frames(channels=16, segments=segments)
    fold = 16 // shift_div

    def frame(clip: Tensor, t: int) -> Tensor:
        out = clip[t].clone()
        out[:fold] = clip[t + 1, :fold] if t + 1 < segments else 0
        out[fold : 2 * fold] = clip[t - 1, fold : 2 * fold] if t > 0 else 0
        return out

    assert torch.equal(partial_shift(x, segments, shift_div), loop(x, segments, frame))


@pytest.mark.parametrize("segments", [1, 2, 5])
def test_frame_difference(segments: int) -> None:
    x, transformed = frames(segments=segments), frames(segments=segments, seed=1)
    both = torch.cat([x, transformed], dim=1)

    def frame(clip: Tensor, t: int) -> Tensor:
        if t == segments - 1:
            return torch.zeros_like(clip[t, :8])
        return clip[t + 1, 8:] - clip[t, :8]

    assert torch.equal(frame_difference(transformed, x, segments), loop(both, segments, frame))


@pytest.mark.parametrize("segments", [1, 2, 5])
def test_backward_difference(segments: int) -> None:
    x, transformed = frames(segments=segments), frames(segments=segments, seed=1)
    both = torch.cat([x, transformed], dim=1)

    def frame(clip: Tensor, t: int) -> Tensor:
        return clip[t - 1, 8:] - clip[t, :8] if t > 0 else torch.zeros_like(clip[t, :8])

    assert torch.equal(backward_difference(transformed, x, segments), loop(both, segments, frame))


@pytest.mark.parametrize(
    "layer",
    [
        lambda x: TemporalConv(8).double()(x, 4),
        lambda x: TemporalConv(8, 2).double()(x, 4),
        lambda x: TemporalConv(8, 2, space=3).double()(x, 4),
        lambda x: partial_shift(x, 4),
        lambda x: frame_difference(x, x, 4),
    ],
    ids=["channel-wise", "grouped", "3x3x3", "shift", "difference"],
)
def test_clips_of_a_batch_never_mix(layer: Callable[[Tensor], Tensor]) -> None:
    x = frames(clips=3)
    together = layer(x)
    apart = torch.cat([layer(clip) for clip in x.split(4)])
    torch.testing.assert_close(together, apart)
    x[4:8] = torch.nan
    for others in (slice(0, 4), slice(8, 12)):
        torch.testing.assert_close(layer(x)[others], together[others])


def test_under_torch_func() -> None:
    x = torch.stack([frames(clips=1), frames(clips=1, seed=1)])
    layer = TemporalConv(8).double()
    found = torch.func.vmap(lambda clip: layer(clip, 4))(x)
    torch.testing.assert_close(found, torch.stack([layer(clip, 4) for clip in x]))
