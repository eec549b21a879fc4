from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smnet.models import create_model, list_models, load_weights, multiply_adds, parameter_count
from smnet.models.base import ModelSpec, VideoModel
from smnet.models.differences import ShortTermDifference
from smnet.models.layers import TemporalConv
from smnet.models.tdn import TDN, LongTerm, LongTermDifference, TDNOptions


def scramble(model: nn.Module, seed: int = 1) -> None:
    """Every tensor as after training, so that no mistake hides behind ones and zeros."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight.data, 0.8, 1.2),
                (module.bias.data, -0.2, 0.2),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.8, 1.2),
            ):
                assert tensor is not None
                tensor.uniform_(low, high, generator=generator)
        elif isinstance(module, nn.Conv2d) and module.bias is not None:
            module.bias.data.uniform_(-0.2, 0.2, generator=generator)


def naive_norm(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    if norm.training:
        mean = x.mean((0, 2, 3), keepdim=True)
        var = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
    else:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean, var = (s[None, :, None, None] for s in (norm.running_mean, norm.running_var))
    y = (x - mean) / torch.sqrt(var + norm.eps)
    return y * norm.weight[None, :, None, None] + norm.bias[None, :, None, None]


def naive_up(x: Tensor, height: int, width: int) -> Tensor:
    """Nearest neighbour: pixel i of n takes pixel floor(i m / n) of m."""
    rows = [i * x.shape[2] // height for i in range(height)]
    columns = [j * x.shape[3] // width for j in range(width)]
    return x[:, :, rows][:, :, :, columns]


def naive_half(x: Tensor) -> Tensor:
    h, w = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
    x = x[:, :, :h, :w]
    return (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4


def naive_gates(part: LongTermDifference, x: Tensor, num_segments: int) -> Tensor:
    """Equations of the module's docstring, frame by frame."""
    b = naive_norm(torch.einsum("oi,nihw->nohw", part.squeeze.weight[:, :, 0, 0], x), part.norm)
    moved = F.conv2d(b, part.transform.weight, padding=1, groups=b.shape[1])
    ahead, behind = [], []
    for n in range(x.shape[0]):
        t = n % num_segments
        last, first = t == num_segments - 1, t == 0
        ahead.append(torch.zeros_like(b[n]) if last else moved[n + 1] - b[n])
        behind.append(torch.zeros_like(b[n]) if first else moved[n - 1] - b[n])
    total = torch.zeros_like(x)
    for d in (torch.stack(ahead), torch.stack(behind)):
        coarse = naive_norm(
            F.conv2d(naive_half(d), part.coarse.weight, padding=1), part.coarse_norm
        )
        fine = naive_norm(F.conv2d(d, part.fine.weight, padding=1), part.fine_norm)
        mixed = (d + naive_up(coarse, *d.shape[2:]) + fine) / 3
        wide = torch.einsum("oi,nihw->nohw", part.expand.weight[:, :, 0, 0], mixed)
        total = total + 1 / (1 + torch.exp(-naive_norm(wide, part.expand_norm))) - 0.5
    return x + x * total / 2


def naive_shift(x: Tensor, weight: Tensor, num_segments: int) -> Tensor:
    """Conv1d over T, zero padded, on features unfolded to (B*H*W, C, T)."""
    unfolded = x.unflatten(0, (-1, num_segments)).permute(0, 3, 4, 2, 1)
    y = F.conv1d(unfolded.flatten(0, 2), weight, padding=1, groups=x.shape[1])
    return y.unflatten(0, unfolded.shape[:3]).permute(0, 4, 3, 1, 2).flatten(0, 1)


def assert_same(
    model: nn.Module,
    one: Callable[[Tensor], Tensor],
    other: Callable[[Tensor], Tensor],
    x: Tensor,
) -> None:
    """The same values, and the same gradients of the input and of every parameter."""
    results = []
    for function in (one, other):
        leaf = x.clone().requires_grad_()
        out = function(leaf)
        weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(7)).to(out)
        inputs = [leaf, *model.parameters()]
        grads = torch.autograd.grad((out * weights).sum(), inputs, allow_unused=True)
        results.append((out.detach(), grads))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-5, atol=1e-7)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        assert a is not None
        b = torch.zeros_like(a) if b is None else b  # without a neighbour, nothing is transformed
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("segments", "size"), [(1, (4, 4)), (2, (5, 4)), (8, (7, 7)), (16, (2, 3))]
)
def test_long_term_part_is_its_equations(
    segments: int, size: tuple[int, int], training: bool
) -> None:
    torch.manual_seed(0)
    part = LongTerm(32).double().train(training)
    scramble(part)
    nn.init.normal_(part.shift.weight)
    x = torch.randn(2 * segments, 32, *size, dtype=torch.float64)

    def naive(x: Tensor) -> Tensor:
        return naive_shift(naive_gates(part.difference, x, segments), part.shift.weight, segments)

    assert_same(part, lambda x: part(x, segments), naive, x)


def test_long_term_part_starts_as_a_shift_of_gated_features() -> None:
    part = LongTerm(16)
    expected = torch.zeros(16, 1, 3)
    expected[:2, 0, 2] = expected[2:4, 0, 0] = expected[4:, 0, 1] = 1
    assert torch.equal(part.shift.weight, expected)
    gates = part.difference.eval()
    with torch.no_grad():
        gates.expand.weight.zero_()  # s(0) - 1/2 = 0: no gate
    x = torch.randn(4, 16, 4, 4)
    torch.testing.assert_close(gates(x, 2), x)


def test_static_clips_have_no_difference_under_an_identity_transform() -> None:
    torch.manual_seed(0)
    gates = LongTermDifference(32).eval()
    with torch.no_grad():
        gates.transform.weight.zero_()
        gates.transform.weight[:, :, 1, 1] = 1
    x = torch.randn(2, 1, 32, 6, 6).expand(-1, 4, -1, -1, -1).flatten(0, 1)
    torch.testing.assert_close(gates(x, 4), x)
    assert not torch.allclose(gates(torch.randn(8, 32, 6, 6), 4), x)


def test_maps_of_one_pixel() -> None:
    part = LongTermDifference(32).eval()
    for size in ((1, 1), (1, 3)):
        assert part(torch.randn(4, 32, *size), 2).shape == (4, 32, *size)


def test_frames_depend_on_their_neighbours_only() -> None:
    torch.manual_seed(0)
    part = LongTerm(16).eval()
    scramble(part)
    x = torch.randn(2 * 6, 16, 4, 4)
    changed = x.clone()
    changed[3] += 1
    moved = (part(x, 6) - part(changed, 6)).abs().amax((1, 2, 3)) > 0
    # gates reach one frame, the shift one further; the second clip (frames 6..11) sees nothing
    assert moved.nonzero().flatten().tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [(32, 32), (36, 46)])
def test_short_term_part_is_its_equations(size: tuple[int, int], training: bool) -> None:
    torch.manual_seed(0)
    options = TDNOptions(width=8, difference_weight=0.3)
    model = TDN(ModelSpec("x", 2, 2, frames_per_segment=5), 18, options)
    model = model.double().train(training)
    scramble(model)
    branch = model.difference
    clips = torch.randn(2, 10, 3, *size, dtype=torch.float64)
    parts = nn.ModuleList([model.conv1, model.bn1, model.layer1, branch])

    def ours(clips: Tensor) -> Tensor:
        seen: list[Tensor] = []
        hook = model.layer2[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        model.forward_features(clips)
        hook.remove()
        return seen[0]

    def naive(clips: Tensor) -> Tensor:
        segments = clips.reshape(4, 5, 3, *size)
        i1, i2, i3, i4, i5 = segments.unbind(1)
        d = naive_half(torch.cat([i2 - i1, i3 - i2, i4 - i3, i5 - i4], dim=1))
        p = F.conv2d(d, branch.conv1.weight, stride=2, padding=3)
        p = F.max_pool2d(naive_norm(p, branch.bn1).relu(), 3, 2, 1)
        x = F.conv2d(i3, model.conv1.weight, model.conv1.bias, stride=2, padding=3)
        x = F.max_pool2d(naive_norm(x, model.bn1).relu(), 3, 2, 1)
        x = 0.7 * x + 0.3 * naive_up(p, *x.shape[2:])
        for block in model.layer1:
            x = block(x, 2)
        for block in branch.layer1:
            p = block(p, 1)
        return 0.7 * x + 0.3 * naive_up(p, *x.shape[2:])

    assert_same(parts, ours, naive, clips)


def test_the_difference_branch_is_blind_to_a_static_segment() -> None:
    torch.manual_seed(0)
    model = create_model("tdn_resnet18", 2, 2, width=8).eval()
    assert isinstance(model, TDN)
    static = torch.randn(3, 1, 3, 32, 32).expand(-1, 5, -1, -1, -1)
    stem, late = model.difference(static)
    assert not stem.any()
    assert stem.shape == late.shape == (3, 8, 4, 4)


# --- sizes and names -------------------------------------------------------------------------


def published_layout(blocks: tuple[int, ...], num_classes: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes in the authors' checkpoints of a bottleneck ResNet, prefixes dropped."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, out: int, into: int, side: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = (out, into, side, side)
        if bias:
            shapes[f"{name}.bias"] = (out,)

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (channels,)
        shapes[f"{name}.num_batches_tracked"] = ()

    conv("conv1", 64, 3, 7)
    norm("bn1", 64)
    conv("conv1_temp", 64, 3, 7)
    conv("conv1_5.0", 64, 12, 7, bias=False)
    norm("conv1_5.1", 64)
    into = 64
    for stage, count in enumerate(blocks, start=1):
        planes = 32 * 2**stage
        for prefix in ("resnext_layer1", "layer1_bak") if stage == 1 else (f"layer{stage}_bak",):
            channels = into
            for index in range(count):
                block = f"{prefix}.{index}"
                conv(f"{block}.conv1", planes, channels, 1)
                norm(f"{block}.bn1", planes)
                if stage > 1:
                    r = planes // 16
                    conv(f"{block}.mse.conv1", r, planes, 1, bias=False)
                    norm(f"{block}.mse.bn1", r)
                    conv(f"{block}.mse.conv2", r, 1, 3, bias=False)
                    conv(f"{block}.mse.conv3", planes, r, 1, bias=False)
                    norm(f"{block}.mse.bn3", planes)
                    for scale in (2, 4):
                        conv(f"{block}.mse.conv3_smallscale{scale}", r, r, 3, bias=False)
                        norm(f"{block}.mse.bn3_smallscale{scale}", r)
                    shapes[f"{block}.shift.conv.weight"] = (planes, 1, 3)
                conv(f"{block}.conv2", planes, planes, 3)
                norm(f"{block}.bn2", planes)
                conv(f"{block}.conv3", 4 * planes, planes, 1)
                norm(f"{block}.bn3", 4 * planes)
                if index == 0:
                    conv(f"{block}.downsample.0", 4 * planes, channels, 1)
                    norm(f"{block}.downsample.1", 4 * planes)
                channels = 4 * planes
        into = 4 * planes
    shapes["new_fc.weight"] = (num_classes, into)
    shapes["new_fc.bias"] = (num_classes,)
    return shapes


RENAMED = [
    ("new_fc.", "fc."),
    ("resnext_layer1.", "difference.layer1."),
    ("conv1_5.0.", "difference.conv1."),
    ("conv1_5.1.", "difference.bn1."),
    ("_bak.", "."),
    (".shift.conv.", ".temporal.shift."),
    (".mse.conv3_smallscale2.", ".temporal.difference.coarse."),
    (".mse.bn3_smallscale2.", ".temporal.difference.coarse_norm."),
    (".mse.conv3_smallscale4.", ".temporal.difference.fine."),
    (".mse.bn3_smallscale4.", ".temporal.difference.fine_norm."),
    (".mse.conv1.", ".temporal.difference.squeeze."),
    (".mse.bn1.", ".temporal.difference.norm."),
    (".mse.conv2.", ".temporal.difference.transform."),
    (".mse.conv3.", ".temporal.difference.expand."),
    (".mse.bn3.", ".temporal.difference.expand_norm."),
]


def ours(name: str) -> str:
    for theirs, mine in RENAMED:
        name = name.replace(theirs, mine)
    return name


@pytest.mark.parametrize(
    ("name", "blocks", "entries"),
    [("tdn_resnet50", (3, 4, 6, 3), 789), ("tdn_resnet101", (3, 4, 23, 3), 789 + 17 * 47)],
)
def test_every_published_tensor_has_a_counterpart(
    name: str, blocks: tuple[int, ...], entries: int
) -> None:
    published = published_layout(blocks, 174)
    assert len(published) == entries
    with torch.device("meta"):
        model = create_model(name, 174)
    kept = {ours(k): s for k, s in published.items() if not k.startswith("conv1_temp.")}
    assert kept == {k: tuple(v.shape) for k, v in model.state_dict().items()}
    if name == "tdn_resnet50":
        # 24.42 M as published, of which conv1_temp has 3 * 7 * 7 * 64 + 64
        assert parameter_count(model) == 24_410_574
        assert parameter_count(model) + 9_472 == 24_420_046
        assert multiply_adds(model) == pytest.approx(35.6e9, rel=0.005)


def test_registry_and_options() -> None:
    expected = [f"tdn_resnet{depth}" for depth in (101, 18, 34, 50)]
    assert list_models("tdn_*") == expected
    model = create_model("tdn_resnet18", 3, 4, width=8)
    assert (model.spec.frames_per_segment, model.spec.frames_per_clip) == (5, 20)
    for segments, options, weight in (
        (8, {}, 0.5),
        (16, {}, 0.25),
        (4, {}, 0.25),
        (16, {"difference_weight": 0.5}, 0.5),
    ):
        made = create_model("tdn_resnet18", 3, segments, None, width=8, **options)
        assert isinstance(made, TDN)
        assert made.difference_weight == weight
    with pytest.raises(ValueError, match="a number from 0 to 1"):
        create_model("tdn_resnet18", 3, width=8, difference_weight=1.5)
    with pytest.raises(ValueError, match="needs frames_per_segment=5"):
        TDN(ModelSpec("x", 2), 18, TDNOptions(width=8))
    with pytest.raises(ValueError, match="clips of 8 frames"):
        model(torch.zeros(1, 8, 3, 32, 32))
    with pytest.raises(ValueError, match="no model is called"):
        create_model("tdn_mobilenetv2", 3)


def test_image_weights_start_trunk_and_difference_branch() -> None:
    torch.manual_seed(0)
    source = create_model("tsn_resnet18", 1000, width=8)
    scramble(source)
    state = source.state_dict()
    model = create_model("tdn_resnet18", 3, width=8)
    scramble(model)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    load_weights(model, state)
    after = model.state_dict()
    for key, value in after.items():
        if key.startswith(("fc.", "difference.bn1.")) or ".temporal." in key:
            assert torch.equal(value, before[key]), key
        elif key == "difference.conv1.weight":
            mean = state["conv1.weight"].mean(1)
            assert value.shape == (8, 12, 7, 7)
            assert all(torch.equal(value[:, i], mean) for i in range(12))
        elif key.removeprefix("difference.") in state:
            assert torch.equal(value, state[key.removeprefix("difference.")]), key
        else:
            assert key.endswith(".bias"), key  # of convolutions, which the image network has not
            assert not value.any(), key
    biases = [k for k, m in model.named_modules() if getattr(m, "bias", None) is not None]
    assert {"conv1", "layer1.0.conv1", "layer4.0.downsample.0", "difference.layer1.1.conv2"} <= set(
        biases
    )
    assert "difference.conv1" not in biases


def test_without_differences_it_equals_the_image_network() -> None:
    """b = 0 and closed gates: the key frames under TSM's shift, here with the shift undone."""
    torch.manual_seed(0)
    flat = create_model("tsn_resnet18", 3, width=8)
    scramble(flat)
    model = create_model("tdn_resnet18", 3, width=8, difference_weight=0.0)
    load_weights(model, flat.state_dict())
    for module in model.modules():
        if isinstance(module, LongTerm):
            nn.init.zeros_(module.difference.expand.weight)
            module.shift = TemporalConv(module.shift.channels, init="identity")
    flat.eval()
    model.eval()
    clips = torch.randn(2, 15, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            model.forward_features(clips),
            flat.forward_features(clips[:, 2::5]),
            rtol=1e-4,
            atol=1e-5,
        )


def trained(name: str, segments: int) -> VideoModel:
    torch.manual_seed(0)
    model = create_model(name, 3, segments, width=8)
    scramble(model)
    nn.init.normal_(model.fc.weight)
    return model


@pytest.mark.parametrize("segments", [1, 2, 8, 16])
@pytest.mark.parametrize("name", ["tdn_resnet18", "tdn_resnet50"])
def test_shapes_and_independent_clips_at_any_length(name: str, segments: int) -> None:
    model = trained(name, segments).eval()
    clips = torch.randn(2, 5 * segments, 3, 32, 32)
    with torch.no_grad():
        features = model.forward_features(clips)
        assert features.shape == (2, segments, model.num_features, 1, 1)
        scores = model(clips)
        torch.testing.assert_close(scores[1:], model(clips[1:]), rtol=1e-4, atol=1e-5)


def test_order_of_segments_and_of_frames_counts() -> None:
    model = trained("tdn_resnet18", 4).eval()
    clips = torch.randn(1, 20, 3, 64, 64)
    segments = clips.unflatten(1, (4, 5))
    with torch.no_grad():
        scores = model(clips)
        for other in (segments.flip(1), segments.flip(2)):
            assert not torch.allclose(model(other.flatten(1, 2)), scores, rtol=1e-3)


@pytest.mark.parametrize("name", ["tdn_resnet18", "tdn_resnet50"])
def test_every_parameter_is_trained(name: str) -> None:
    model = trained(name, 2).train()
    F.cross_entropy(model(torch.randn(2, 10, 3, 64, 64)), torch.tensor([0, 2])).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_branch_owns_its_layer1() -> None:
    model = create_model("tdn_resnet18", 2, width=8)
    assert isinstance(model, TDN)
    assert isinstance(model.difference, ShortTermDifference)
    shared = {id(p) for p in model.layer1.parameters()} & {
        id(p) for p in model.difference.parameters()
    }
    assert not shared
    a, b = model.layer1[0].conv1.weight, model.difference.layer1[0].conv1.weight
    assert a.shape == b.shape
    assert not torch.equal(a, b)
