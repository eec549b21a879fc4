"""SMNet against the article, written out a second time with nothing fused and nothing clever.

The functions ``naive_*`` follow the equations step by step (S1..S6, M1..M6): space is folded into
the batch for the temporal convolution, differences are taken frame by frame, the mask is pooled
frame by frame, every product and sum stands alone. They read the model's own tensors by name.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smnet.models import (
    VideoModel,
    create_model,
    load_weights,
    multiply_adds,
    parameter_count,
)
from smnet.models.layers import partial_shift
from smnet.models.resnet import BlockSite
from smnet.models.smnet import SMNetModule
from smnet.models.smnet_options import SMNetOptions

from .reference import motion_alone, with_difference


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


# ---------------------------------------------------------------- the article, naively


@dataclass
class Tensors:
    """Learned tensors and running statistics by name, and whether BN uses the batch."""

    learned: dict[str, Tensor]
    running: dict[str, Tensor]
    training: bool
    updated: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module, dtype: torch.dtype = torch.float64) -> Tensors:
        """Copies of a model's tensors, as leaves that collect gradients."""
        return cls(
            {k: v.detach().clone().to(dtype).requires_grad_() for k, v in model.named_parameters()},
            {k: v.clone().to(dtype) for k, v in model.named_buffers()},
            model.training,
        )

    def norm(self, x: Tensor, name: str) -> Tensor:
        """Batch normalisation, eps 1e-5, momentum 0.1."""
        if self.training:
            mean = x.mean((0, 2, 3))
            var = ((x - mean[:, None, None]) ** 2).mean((0, 2, 3))
            count = x.numel() // x.shape[1]
            for key, now in (("mean", mean), ("var", var * count / (count - 1))):
                old = self.running[f"{name}.running_{key}"]
                self.updated[f"{name}.running_{key}"] = 0.9 * old + 0.1 * now.detach()
        else:
            mean = self.running[f"{name}.running_mean"]
            var = self.running[f"{name}.running_var"]
        x = (x - mean[:, None, None]) / torch.sqrt(var[:, None, None] + 1e-5)
        weight, bias = self.learned[f"{name}.weight"], self.learned[f"{name}.bias"]
        return x * weight[:, None, None] + bias[:, None, None]


def naive_conv_over_time(x: Tensor, weight: Tensor, segments: int) -> Tensor:
    """S1..S3: (N H W) x C x T, a grouped 1-D convolution, and back; or a grouped 3-D one."""
    channels, height, width = x.shape[1:]
    groups = channels // weight.shape[1]
    clips = x.reshape(-1, segments, channels, height, width)
    if weight.dim() == 5:
        y = F.conv3d(clips.permute(0, 2, 1, 3, 4), weight, padding=1, groups=groups)
        return y.permute(0, 2, 1, 3, 4).reshape(x.shape)
    lines = clips.permute(0, 3, 4, 2, 1).reshape(-1, channels, segments)
    conv = nn.Conv1d(channels, channels, 3, padding=1, groups=groups, bias=False)
    lines = torch.func.functional_call(conv, {"weight": weight}, (lines,))
    y = lines.reshape(-1, height, width, channels, segments).permute(0, 4, 3, 1, 2)
    return y.reshape(x.shape)


def naive_mask(x: Tensor, t: Tensors, name: str, o: SMNetOptions, segments: int) -> Tensor:
    """S4, S5."""
    planes = []
    for frame in x:  # (C, H, W)
        seen = {"mean": frame.mean(0), "max": frame.amax(0)}
        names = {"mean+max": ("mean", "max"), "mean": ("mean",), "max": ("max",), "3d": ("mean",)}
        planes.append(torch.stack([seen[k] for k in names[o.attention]]))
    pooled = torch.stack(planes)
    weight = t.learned[f"{name}.conv.weight"]
    if o.attention == "3d":
        score = naive_conv_over_time(pooled, weight, segments)
    else:
        score = F.conv2d(pooled, weight, padding=weight.shape[-1] // 2)
    if o.attention_norm:
        score = t.norm(score, f"{name}.norm")
    return torch.sigmoid(score)


def naive_se(
    x: Tensor, t: Tensors, name: str, o: SMNetOptions, segments: int
) -> tuple[Tensor, Tensor]:
    """Y_SE and Z."""

    def over_time(v: Tensor) -> Tensor:
        if not o.temporal:
            return v
        return naive_conv_over_time(v, t.learned[f"{name}.temporal.weight"], segments)

    def masked(v: Tensor, seen: Tensor) -> Tensor:
        out = v * naive_mask(seen, t, f"{name}.attention", o, segments)
        return {"z": out + v, "x": out + x, "none": out}[o.residual]

    if o.attention == "none":
        z = over_time(x)
        return z, z
    if o.order == "attention_first":
        z = over_time(masked(x, x))
        return z, z
    z = over_time(x)
    return masked(z, x if o.order == "parallel" else z), z


def naive_me(x: Tensor, t: Tensors, name: str, o: SMNetOptions, segments: int) -> Tensor:
    """Y_ME."""
    squeezed = t.learned[f"{name}.squeeze.weight"].shape[0]
    f = t.norm(F.conv2d(x, t.learned[f"{name}.squeeze.weight"]), f"{name}.norm")  # M1
    p = F.conv2d(f, t.learned[f"{name}.transform.weight"], padding=1, groups=squeezed)  # M2
    differences = []
    for clip in range(x.shape[0] // segments):  # M3
        for step in range(segments):
            now = clip * segments + step
            zero = torch.zeros_like(f[now])
            ahead = p[now + 1] - f[now] if step + 1 < segments else zero
            behind = p[now - 1] - f[now] if step > 0 else zero
            differences.append((ahead + behind) / 2 if o.difference == "both" else ahead)
    d = torch.stack(differences).mean((2, 3), keepdim=True)  # M4
    score = F.conv2d(d, t.learned[f"{name}.expand.weight"])  # M5
    if o.gate == "centred":
        score = t.norm(score, f"{name}.expand_norm")
    gate = torch.sigmoid(score)
    return x * (gate - 0.5 if o.gate == "centred" else gate) + x  # M6


def naive_module(x: Tensor, t: Tensors, name: str, o: SMNetOptions, segments: int) -> Tensor:
    """SE, ME and their fusion; ``name`` ends with a dot, or is empty."""
    se, me = f"{name}se", f"{name}me"
    if o.parts == "se":
        return naive_se(x, t, se, o, segments)[0]
    if o.parts == "me":
        return naive_me(x, t, me, o, segments)
    if o.fusion == "se_me":
        return naive_me(naive_se(x, t, se, o, segments)[0], t, me, o, segments)
    if o.fusion == "me_se":
        return naive_se(naive_me(x, t, me, o, segments), t, se, o, segments)[0]
    y_se, z = naive_se(x, t, se, o, segments)
    y_me = naive_me(z if o.motion_input == "z" else x, t, me, o, segments)
    if o.fusion == "concat":
        return F.conv2d(torch.cat([y_se, y_me], dim=1), t.learned[f"{name}join.weight"])
    if o.fusion == "weighted":
        a, b = t.learned[f"{name}balance"]
        return a * y_se + b * y_me
    return (y_se + y_me) / (2 if o.fusion == "mean" else 1)


def naive_network(
    clips: Tensor, t: Tensors, o: SMNetOptions, place: str, stride_in: str = "conv2"
) -> Tensor:
    """Scores of a ResNet whose blocks carry the module, from the names of its tensors alone."""
    segments = clips.shape[1]
    w = t.learned

    def conv(x: Tensor, key: str, stride: int = 1) -> Tensor:
        side = w[f"{key}.weight"].shape[-1]
        return F.conv2d(x, w[f"{key}.weight"], stride=stride, padding=side // 2)

    x = clips.reshape(-1, *clips.shape[2:])
    x = torch.relu(t.norm(conv(x, "conv1", 2), "bn1"))
    x = F.max_pool2d(x, 3, 2, 1)
    for layer in ("layer1", "layer2", "layer3", "layer4"):
        blocks = sorted({int(k.split(".")[1]) for k in w if k.startswith(f"{layer}.")})
        for block in blocks:
            at = f"{layer}.{block}"
            stride = 2 if layer != "layer1" and block == 0 else 1
            carries = any(k.startswith(f"{at}.temporal.") for k in w)
            deep = f"{at}.conv3.weight" in w
            strides = (1, stride) if deep and stride_in == "conv2" else (stride, 1)
            shortcut = x
            if f"{at}.downsample.0.weight" in w:
                shortcut = t.norm(conv(x, f"{at}.downsample.0", stride), f"{at}.downsample.1")
            y = x
            if carries and place == "before_conv1":
                y = naive_module(y, t, f"{at}.temporal.", o, segments)
            y = torch.relu(t.norm(conv(y, f"{at}.conv1", strides[0]), f"{at}.bn1"))
            if carries and place == "after_conv1":
                y = naive_module(y, t, f"{at}.temporal.", o, segments)
            y = t.norm(conv(y, f"{at}.conv2", strides[1]), f"{at}.bn2")
            if deep:
                y = t.norm(conv(torch.relu(y), f"{at}.conv3"), f"{at}.bn3")
            x = torch.relu(y + shortcut)
    pooled = x.mean((2, 3)).reshape(-1, segments, x.shape[1])
    scores = [clip @ w["fc.weight"].T + w["fc.bias"] for clip in pooled]
    return torch.stack([score.mean(0) for score in scores])


# ---------------------------------------------------------------- comparing


def randomise(model: nn.Module, seed: int = 0, scale: float = 0.4) -> None:
    """New layers start at zeros and shifts; tests need them anywhere."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            values = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            if "norm" in name or "bn" in name or "downsample.1" in name:
                p.copy_(1 + 0.2 * values if name.endswith("weight") else 0.2 * values)
            elif "temporal" in name or name.split(".")[0] in ("se", "me", "join", "balance"):
                p.copy_(scale * values)
            elif name == "fc.weight":
                p.copy_(0.1 * values)
        for name, b in model.named_buffers():
            if name.endswith("running_mean"):
                b.copy_(0.2 * torch.randn(b.shape, generator=generator, dtype=torch.float64))
            elif name.endswith("running_var"):
                b.copy_(0.5 + torch.rand(b.shape, generator=generator, dtype=torch.float64))


def noise(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def compare(
    model: nn.Module, t: Tensors, y: Tensor, expected: Tensor, x: Tensor, x_naive: Tensor
) -> None:
    """Outputs, gradients of the input and of every parameter, and running statistics."""
    close = functools.partial(torch.testing.assert_close, rtol=1e-6, atol=1e-7)
    close(y, expected)
    weighting = noise(*y.shape, seed=2).to(y)
    (y * weighting).sum().backward()
    (expected * weighting).sum().backward()
    close(x.grad, x_naive.grad)
    parameters = dict(model.named_parameters())
    assert parameters.keys() == t.learned.keys()
    for name, p in parameters.items():
        wanted = t.learned[name].grad
        wanted = torch.zeros_like(p) if wanted is None else wanted  # ME of a clip of one frame
        assert p.grad is not None, name
        close(p.grad, wanted, msg=lambda text, name=name: f"{name}: {text}")
    for name, b in model.named_buffers():
        if not name.endswith("num_batches_tracked"):
            close(b, t.updated.get(name, t.running[name]))


VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "se only": {"parts": "se"},
    "me only": {"parts": "me"},
    "A1 G=1": {"groups": 1},
    "A1 G=2": {"groups": 2},
    "A1 G=4": {"groups": 4},
    "A1 G=8": {"groups": 8},
    "A1 G=C written out": {"groups": 16},
    "A1 no temporal convolution": {"temporal": False},
    "A2 3x3x3": {"temporal_space": 3},
    "A2 3x3x3 G=2": {"temporal_space": 3, "groups": 2},
    "A2 3x3x3 G=1": {"temporal_space": 3, "groups": 1},
    "A3 mean": {"attention": "mean"},
    "A3 max": {"attention": "max"},
    "A3 3x3x3": {"attention": "3d"},
    "A3 none": {"attention": "none"},
    "A3 3x3": {"attention_kernel": 3},
    "A3 1x1 of the max": {"attention_kernel": 1, "attention": "max"},
    "A4 parallel": {"order": "parallel"},
    "A4 attention first": {"order": "attention_first"},
    "A4 attention first, 3-D": {"order": "attention_first", "attention": "3d"},
    "A5 + X": {"residual": "x"},
    "A5 none": {"residual": "none"},
    "A5 none, attention first": {"residual": "none", "order": "attention_first"},
    "A5 + X, parallel": {"residual": "x", "order": "parallel"},
    "A6 BN": {"attention_norm": True},
    "A6 BN, 3-D": {"attention_norm": True, "attention": "3d"},
    "A7 r=8": {"reduction": 8},
    "A7 r=4": {"reduction": 4},
    "A8 centred": {"gate": "centred"},
    "ME of the difference": {"motion_init": "difference"},
    "A9 ME of Z": {"motion_input": "z"},
    "A9 ME of Z, attention first": {"motion_input": "z", "order": "attention_first"},
    "A10 mean": {"fusion": "mean"},
    "A10 SE then ME": {"fusion": "se_me"},
    "A10 ME then SE": {"fusion": "me_se"},
    "A10 concat": {"fusion": "concat"},
    "A10 weighted": {"fusion": "weighted"},
    "A10 concat of Z": {"fusion": "concat", "motion_input": "z"},
    "A13 both ways": {"difference": "both"},
    "A13 both ways, centred": {"difference": "both", "gate": "centred"},
    "ACTION's choices": {"attention": "3d", "order": "parallel", "motion_input": "z"},
}


def drawn(count: int) -> list[dict[str, Any]]:
    """Choices combined at random, so that pairs which nobody wrote down are met as well."""
    choices: dict[str, list[Any]] = {
        "parts": ["se+me", "se+me", "se+me", "se", "me"],
        "groups": [None, 1, 2, 8],
        "temporal": [True, True, True, False],
        "temporal_space": [1, 1, 3],
        "temporal_init": ["shift", "difference", "motion", "identity"],
        "attention": ["mean+max", "mean", "max", "3d", "none"],
        "attention_kernel": [3, 5, 7],
        "attention_norm": [False, True],
        "order": ["temporal_first", "parallel", "attention_first"],
        "residual": ["z", "x", "none"],
        "reduction": [4, 8, 16, 32],
        "gate": ["sigmoid", "centred"],
        "motion_init": ["half", "difference"],
        "motion_input": ["x", "z"],
        "difference": ["forward", "both"],
        "fusion": ["sum", "mean", "se_me", "me_se", "concat", "weighted"],
    }
    elsewhere = {"place", "stages", "blocks", "repeat"}  # not choices of one module
    elsewhere.add("causal")  # test_streaming.py
    assert choices.keys() == {f.name for f in fields(SMNetOptions)} - elsewhere
    rng, found = random.Random(368), []
    while len(found) < count:
        options = {name: rng.choice(values) for name, values in choices.items()}
        try:
            SMNetOptions(**options)
        except ValueError:
            continue
        found.append(options)
    return found


def check_module(
    options: Mapping[str, Any],
    training: bool = True,
    memory_format: torch.memory_format = torch.contiguous_format,
    segments: int = 4,
) -> None:
    chosen = SMNetOptions(**options)
    module = SMNetModule(16, chosen).double().train(training)
    randomise(module)
    t = Tensors.of(module)
    x = noise(2 * segments, 16, 5, 6).to(memory_format=memory_format).requires_grad_()
    x_naive = x.detach().clone().requires_grad_()
    y = module(x, segments)
    assert y.shape == x.shape
    assert y.is_contiguous(memory_format=memory_format)
    compare(module, t, y, naive_module(x_naive, t, "", chosen, segments), x, x_naive)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS.keys())
def test_module_is_the_article(
    options: dict[str, Any], training: bool, memory_format: torch.memory_format
) -> None:
    check_module(options, training, memory_format)


@pytest.mark.parametrize("options", drawn(60))
def test_module_is_the_article_for_choices_drawn_at_random(options: dict[str, Any]) -> None:
    check_module(options)


@pytest.mark.parametrize("segments", [1, 2, 3, 8])
@pytest.mark.parametrize("variant", ["paper", "A1 G=2", "A13 both ways", "A3 3x3x3"])
def test_module_is_the_article_at_any_length(variant: str, segments: int) -> None:
    check_module(VARIANTS[variant], segments=segments)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("variant", ["paper", "A1 G=2", "A8 centred", "A10 concat"])
def test_module_in_single_precision(variant: str, memory_format: torch.memory_format) -> None:
    chosen = SMNetOptions(**VARIANTS[variant])
    module = SMNetModule(32, chosen).train().to(memory_format=memory_format)
    randomise(module)
    t = Tensors.of(module)
    x = noise(8, 32, 7, 7)
    y = module(x.float().to(memory_format=memory_format), 4)
    expected = naive_module(x, t, "", chosen, 4)
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)


def test_module_under_autocast_stays_near_and_gives_gradients() -> None:
    module = SMNetModule(16).train()
    randomise(module)
    x = noise(8, 16, 5, 5).float()
    expected = module(x, 4)
    with torch.autocast("cpu", torch.bfloat16):
        y = module(x, 4)
        half = module(x.bfloat16(), 4)
    (y.sum() + half.float().sum()).backward()
    assert half.dtype == torch.bfloat16
    for got in (y, half):
        assert (got - expected).abs().max() < 0.05 * expected.abs().max()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)
    assert all(p.grad is not None for p in module.parameters())


NETWORKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "18 before": ("resnet18", "before_conv1", {}),
    "18 after": ("resnet18", "after_conv1", {}),
    "50 before": ("resnet50", "before_conv1", {}),
    "50 after": ("resnet50", "after_conv1", {}),
    "50 before, stride in conv1": ("resnet50", "before_conv1", {"stride_in": "conv1"}),
    "50 after, stride in conv1": ("resnet50", "after_conv1", {"stride_in": "conv1"}),
    "50, G=2": ("resnet50", "before_conv1", {"groups": 2}),
    "50, 3x3x3 G=8": ("resnet50", "before_conv1", {"groups": 8, "temporal_space": 3}),
    "50, TEA's gate": ("resnet50", "before_conv1", {"gate": "centred"}),
    "50, mean": ("resnet50", "before_conv1", {"fusion": "mean", "motion_input": "z"}),
    "50, concat": ("resnet50", "before_conv1", {"fusion": "concat", "difference": "both"}),
    "50, series": ("resnet50", "after_conv1", {"fusion": "se_me", "attention": "3d"}),
    "50, first blocks": ("resnet50", "before_conv1", {"blocks": "first"}),
    "50, last blocks of two stages": (
        "resnet50",
        "before_conv1",
        {"blocks": "last", "stages": (3, 5)},
    ),
    "34, weighted": ("resnet34", "after_conv1", {"fusion": "weighted", "residual": "none"}),
}


def small_network(key: str, clips: Tensor) -> tuple[VideoModel, SMNetOptions, dict[str, str]]:
    """A network with tensors anywhere, and running statistics as if trained on ``clips``."""
    trunk, place, options = NETWORKS[key]
    model = create_model(f"smnet_{trunk}", 5, 4, place=place, width=8, dropout=0.0, **options)
    randomise(model, scale=0.2)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model(clips.float())
    for norm in norms:
        norm.momentum = 0.1
    rest = {"place": place, "stride_in": options.get("stride_in", "conv2")}
    return (
        model,
        SMNetOptions(**{k: v for k, v in options.items() if k != "stride_in"}),
        rest,
    )


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("key", NETWORKS)
def test_network_is_the_article(key: str, training: bool, device: torch.device) -> None:
    clips = noise(2, 4, 3, 64, 64)
    model, options, rest = small_network(key, clips)
    model.double().train(training).to(device)
    t = Tensors.of(model)
    clips = clips.to(device).requires_grad_()
    clips_naive = clips.detach().clone().requires_grad_()
    expected = naive_network(clips_naive, t, options, **rest)
    compare(model, t, model(clips), expected, clips, clips_naive)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("key", ["18 before", "50 before", "50 after"])
def test_network_in_single_precision_and_channels_last(key: str, training: bool) -> None:
    clips = noise(2, 4, 3, 64, 64)
    model, options, rest = small_network(key, clips)
    model.train(training)
    exact, single = Tensors.of(model), Tensors.of(model, torch.float32)
    with torch.no_grad():
        expected = naive_network(clips, exact, options, **rest)
        naive = naive_network(clips.float(), single, options, **rest)
        y = model.to(memory_format=torch.channels_last)(clips.float())
    # 53 normalisations by the statistics of one small batch lose digits, however they are written.
    unavoidable = (naive - expected).abs().max()
    assert (y - expected).abs().max() < max(1e-5 * expected.abs().max(), 5 * unavoidable)


# ---------------------------------------------------------------- paper.md 2.6, one by one


SITES = [  # C, H = W of the module's input in ResNet-50 at 224 pixels
    (64, 56),
    (256, 56),
    (512, 28),
    (1024, 14),
    (2048, 7),
]


@pytest.mark.parametrize("segments", [1, 8, 16])
@pytest.mark.parametrize(("channels", "side"), SITES)
def test_output_shape_is_input_shape(channels: int, side: int, segments: int) -> None:
    module = SMNetModule(channels).eval()
    x = torch.zeros(segments, channels, side, side)
    with torch.no_grad():
        assert module(x, segments).shape == x.shape


def test_last_difference_is_zero_and_its_gate_one_half() -> None:
    module = SMNetModule(32).double()
    randomise(module)
    assert module.me is not None
    gates = module.me.gates(noise(8, 32, 5, 5), 4)  # M_m
    last = gates.unflatten(0, (2, 4))[:, -1]
    assert torch.equal(last, torch.full_like(last, 0.5))
    assert (gates.unflatten(0, (2, 4))[:, :-1] != 0.5).all()


def test_static_clip_moves_unless_the_transform_is_identity() -> None:
    module = SMNetModule(32).double().eval()
    randomise(module)
    me = module.me
    assert me is not None
    x = noise(1, 32, 5, 5).repeat(4, 1, 1, 1)
    assert (me.scale(x, 4)[:-1] != 1.5).all()
    nn.init.zeros_(me.transform.weight)
    with torch.no_grad():
        me.transform.weight[:, 0, 1, 1] = 1
    assert torch.equal(me.scale(x, 4), torch.full((4, 32, 1, 1), 1.5, dtype=x.dtype))


def test_identity_and_zeros_triple_the_input() -> None:
    options = SMNetOptions(temporal_init="identity")
    module = SMNetModule(32, options).double()  # S5 and M5 start at zero
    x = noise(8, 32, 5, 5)
    torch.testing.assert_close(module(x, 4), 3 * x)


def test_the_motion_path_may_start_as_the_difference() -> None:
    torch.manual_seed(0)
    module = SMNetModule(64, SMNetOptions(parts="me", motion_init="difference")).double()
    frame, other = noise(1, 64, 5, 5), noise(1, 64, 5, 5, seed=3)
    x = torch.cat([frame, frame, other, other])
    gates = module.me.gates(x, 4)
    even = torch.full_like(gates[:1], 0.5)
    torch.testing.assert_close(gates[[0, 2, 3]], even.expand(3, 64, 1, 1))  # nothing moves
    assert gates[1].std() > 0.1
    started = SMNetModule(64, SMNetOptions(parts="me")).double()
    assert (started.me.gates(x, 4) == 0.5).all()


@pytest.mark.parametrize("option", [{"gate": "centred"}, {"fusion": "mean"}, {"parts": "se"}])
def test_scale_at_the_start_of_other_choices(option: dict[str, Any]) -> None:
    module = SMNetModule(32, SMNetOptions(temporal_init="identity", **option)).double().eval()
    x = noise(8, 32, 5, 5)
    scale = 2.5 if "gate" in option else 1.5
    torch.testing.assert_close(module(x, 4), scale * x)


@pytest.mark.parametrize("variant", ["paper", "A1 G=2", "A3 3x3x3", "A13 both ways"])
def test_a_frame_sees_its_neighbours_and_no_other_clip(variant: str) -> None:
    segments = 6
    module = SMNetModule(16, SMNetOptions(**VARIANTS[variant])).double().eval()
    randomise(module)
    x = noise(2 * segments, 16, 5, 5)
    # 3-D attention looks at the neighbours of Z, which looked at the neighbours of X.
    reach = 2 if variant == "A3 3x3x3" else 1
    with torch.no_grad():
        before = module(x, segments)
        for changed in range(2 * segments):
            other = x.clone()
            other[changed] += noise(16, 5, 5, seed=3)
            moved = (module(other, segments) != before).flatten(1).any(1)
            for seen in range(2 * segments):
                same_clip = seen // segments == changed // segments
                near = same_clip and abs(seen - changed) <= reach
                assert bool(moved[seen]) == near, (changed, seen)


@pytest.mark.parametrize("trained", [False, True], ids=["at the start", "anywhere"])
def test_reversing_time_changes_scores_of_smnet_and_not_of_tsn(trained: bool) -> None:
    clips = noise(2, 8, 3, 64, 64)
    for family, changes in (("smnet", True), ("tsn", False)):
        model = create_model(f"{family}_resnet18", 5, 8, width=8).double().eval()
        if trained:
            randomise(model)
        with torch.no_grad():
            scores, reverse = model(clips), model(clips.flip(1))
        # The classifier starts near zero, so differences count by the size of the scores.
        change = (scores - reverse).abs().max() / scores.abs().max()
        assert change > 1e-3 if changes else change < 1e-12


def test_image_weights_leave_the_modules_and_the_classifier_alone() -> None:
    image = create_model("tsn_resnet50", 1000, width=8).state_dict()
    image = {k: torch.randn_like(v) if v.is_floating_point() else v for k, v in image.items()}
    torch.manual_seed(0)
    start = create_model("smnet_resnet50", 5, width=8).state_dict()
    torch.manual_seed(0)
    loaded = create_model("smnet_resnet50", 5, width=8, weights=image).state_dict()
    assert image.keys() <= loaded.keys()
    unmatched = {k for k in loaded if k not in image or k.startswith("fc.")}
    new = {k for k in unmatched if ".temporal." in k}
    assert unmatched - new == {"fc.weight", "fc.bias"}
    assert len({k.split(".temporal.")[0] for k in new}) == 16
    for key, value in loaded.items():
        assert torch.equal(value, start[key] if key in unmatched else image[key]), key


# ---------------------------------------------------------------- paper.md 2.5


BLOCKS = [(64, 56, 64, 56)] + 2 * [(256, 56, 64, 56)]  # C and side before conv1, after conv1
BLOCKS += [(256, 56, 128, 56)] + 3 * [(512, 28, 128, 28)]
BLOCKS += [(512, 28, 256, 28)] + 5 * [(1024, 14, 256, 14)]
BLOCKS += [(1024, 14, 512, 14)] + 2 * [(2048, 7, 512, 7)]


def se_parameters(channels: int, groups: int | None) -> int:
    return 3 * channels**2 // (groups or channels) + 98


def me_parameters(channels: int, r: int = 16) -> int:
    return 2 * channels**2 // r + 2 * channels // r + 9 * channels // r


@functools.cache
def on_paper(name: str, **options: Any) -> VideoModel:
    """A model without memory behind its tensors."""
    with torch.device("meta"):
        return create_model(name, 174, 8, **options)


def added(model: VideoModel) -> tuple[int, int]:
    """Parameters of all SE and of all ME."""
    modules = [m for m in model.modules() if isinstance(m, SMNetModule)]
    return (
        sum(parameter_count(m.se) for m in modules if m.se is not None),
        sum(parameter_count(m.me) for m in modules if m.me is not None),
    )


@pytest.mark.parametrize(
    ("channels", "se", "me"),
    [
        (64, 290, 556),
        (256, 866, 8_368),
        (512, 1_634, 33_120),
        (1024, 3_170, 131_776),
        (2048, 6_242, 525_696),
    ],
)
def test_parameters_of_a_module(channels: int, se: int, me: int) -> None:
    module = SMNetModule(channels)
    assert module.se is not None
    assert module.me is not None
    assert parameter_count(module.se) == se == se_parameters(channels, None)
    assert parameter_count(module.me) == me == me_parameters(channels)


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({}, 0),
        ({"groups": 2}, 3 * 64 * 32 - 3 * 64),
        ({"groups": 1}, 3 * 64 * 64 - 3 * 64),
        ({"temporal": False}, -3 * 64),
        ({"temporal_space": 3}, 27 * 64 - 3 * 64),
        ({"attention": "3d"}, 27 - 98),  # ACTION-Net's
        ({"attention": "mean"}, 49 - 98),
        ({"attention": "max"}, 49 - 98),
        ({"attention": "none"}, -98),
        ({"attention_kernel": 3}, 2 * 9 - 98),
        ({"attention_norm": True}, 2),
        ({"reduction": 8}, me_parameters(64, 8) - 556),
        ({"reduction": 4}, me_parameters(64, 4) - 556),
        ({"gate": "centred"}, 2 * 64),
        ({"fusion": "concat"}, 2 * 64 * 64),
        ({"fusion": "weighted"}, 2),
        ({"parts": "se"}, -556),
        ({"parts": "me"}, -290),
    ],
)
def test_parameters_of_a_choice(options: dict[str, Any], more: int) -> None:
    assert parameter_count(SMNetModule(64, SMNetOptions(**options))) == 290 + 556 + more


def test_sites_of_the_modules() -> None:
    for place, column in (("before_conv1", 0), ("after_conv1", 2)):
        model = on_paper("smnet_resnet50", place=place)
        channels = [
            m.se.temporal.channels
            for m in model.modules()
            if isinstance(m, SMNetModule) and m.se is not None and m.se.temporal is not None
        ]
        assert channels == [block[column] for block in BLOCKS]


EXACT = [  # options, added SE, added ME
    ({}, 40_928, 2_000_188),
    ({"gate": "centred"}, 40_928, 2_026_428),
    ({"place": "after_conv1"}, 12_896, 159_780),
    ({"blocks": "first"}, 5_960, 173_820),
    ({"blocks": "last"}, 11_912, 698_960),
    ({"stages": (2, 3, 4, 5)}, 40_928, 2_000_188),
]


@pytest.mark.parametrize(("options", "se", "me"), EXACT)
def test_parameters_of_a_variant_exactly(options: dict[str, Any], se: int, me: int) -> None:
    model = on_paper("smnet_resnet50", **options)
    assert added(model) == (se, me)
    assert parameter_count(model) == 23_508_032 + 2049 * 174 + se + me


def test_parameters_of_the_whole_model_exactly() -> None:
    for classes, plain, total in [(174, 23_864_558, 25_905_674), (400, 24_327_632, 26_368_748)]:
        with torch.device("meta"):
            assert parameter_count(create_model("tsn_resnet50", classes)) == plain
            assert parameter_count(create_model("smnet_resnet50", classes)) == total


ROWS = [  # options; added SE and ME, totals for K = 174 and 400, in millions; GMAC of 8, 16 frames
    ({}, "0.041", "2.00", "25.91", "26.37", "34.60", "69.20"),
    ({"gate": "centred"}, "0.041", "2.03", "25.93", "26.39", "34.60", "69.20"),
    ({"place": "after_conv1"}, "0.01", "0.16", "24.04", "24.50", "33.10", "66.20"),
    ({"blocks": "first"}, "0.01", "0.17", "24.04", "24.51", "33.24", "66.48"),
    ({"blocks": "last"}, "0.01", "0.70", "24.58", "25.04", "33.33", "66.66"),
    ({"groups": 32}, "1.49", "2.00", "27.36", "27.82", "36.8", "73.6"),
    ({"groups": 16}, "2.99", "2.00", "28.85", "29.32", "39.1", "78.2"),
    ({"groups": 8}, "5.98", "2.00", "31.84", "32.30", "43.8", "87.5"),
    ({"groups": 2}, "23.90", "2.00", "49.76", "50.22", "71.6", "143.2"),
    ({"place": "after_conv1", "groups": 2}, "1.89", "0.16", "25.91", "26.38", "36.9", "73.8"),
    ({"place": "after_conv1", "groups": 8}, "0.47", "0.16", "24.50", "24.96", "34.0", "68.0"),
    ({"place": "after_conv1", "groups": 32}, "0.12", "0.16", "24.14", "24.61", "33.3", "66.6"),
    ({"stages": (5,)}, "0.016", "1.18", "25.06", "25.53", "33.2", "66.4"),
    ({"stages": (4, 5)}, "0.033", "1.88", "25.77", "26.24", "33.9", "67.7"),
    ({"stages": (3, 4, 5)}, "0.039", "1.98", "25.89", "26.35", "34.3", "68.7"),
    ({"stages": (2, 3, 4, 5)}, "0.041", "2.00", "25.91", "26.37", "34.6", "69.2"),
]


@functools.cache
def plain_multiply_adds(frames: int) -> int:
    return multiply_adds(on_paper("tsn_resnet50"), frames)


def printed(value: float, like: str) -> str:
    return f"{value:.{len(like.partition('.')[2])}f}"


@pytest.mark.parametrize(
    "row", ROWS, ids=lambda row: ", ".join(f"{k}={v}" for k, v in row[0].items())
)
def test_rows_of_the_table_to_their_printed_digits(row: tuple[Any, ...]) -> None:
    options, *columns = row
    model = on_paper("smnet_resnet50", **options)
    se, me = added(model)
    base = 23_508_032
    values = [se / 1e6, me / 1e6]
    values += [(base + 2049 * classes + se + me) / 1e6 for classes in (174, 400)]
    # The table takes ResNet-50 as 4.109 GMAC a frame; what the modules add is what is tested.
    more = multiply_adds(model, 8) - plain_multiply_adds(8)
    values += [frames * (4.109 + more / 8e9) for frames in (8, 16)]
    assert [printed(v, c) for v, c in zip(values, columns, strict=True)] == columns


@pytest.mark.parametrize("place", ["before_conv1", "after_conv1"])
@pytest.mark.parametrize("groups", [None, 8])
def test_multiply_adds_of_the_modules_exactly(place: str, groups: int | None) -> None:
    model = on_paper("smnet_resnet50", place=place, groups=groups)
    total = 0
    for before, before_side, after, after_side in BLOCKS:
        c, side = (before, before_side) if place == "before_conv1" else (after, after_side)
        over_time = 3 * c * c // (groups or c)
        squeeze, transform, expand = c * c // 16, 9 * c // 16, c * c // 16
        total += side**2 * (over_time + 98 + squeeze + transform) + expand
    for frames in (8,) if groups else (1, 16):
        assert multiply_adds(model, frames) - plain_multiply_adds(frames) == frames * total


def test_multiply_adds_of_the_plain_network() -> None:
    # Stem, then by stage: projection, first block, other blocks; the table's 4.109 is rounder.
    macs = 112**2 * 64 * 3 * 49
    channels, side = 64, 56
    for stage, blocks in enumerate((3, 4, 6, 3)):
        planes = 64 * 2**stage
        for block in range(blocks):
            out = side // 2 if stage and not block else side
            macs += side**2 * channels * planes  # conv1, at the resolution of the input
            macs += out**2 * (9 * planes**2 + 4 * planes**2)
            macs += out**2 * channels * 4 * planes if not block else 0
            channels, side = 4 * planes, out
    assert plain_multiply_adds(1) == macs + 2048 * 174
    assert round(macs / 1e9, 3) == 4.087


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"parts": "both"}, "parts must be se\\+me, se or me"),
        ({"attention": "sum"}, "attention must be mean"),
        ({"order": "last"}, "order must be temporal_first"),
        ({"fusion": "product"}, "fusion must be sum, mean"),
        ({"attention_kernel": 4}, "odd"),
        ({"attention_kernel": -1}, "from 1 to 31"),
        ({"reduction": 0}, "reduction"),
        ({"groups": 0}, "groups"),
        ({"groups": 3}, "groups"),
        ({"temporal_space": 5}, "1 or 3"),
        ({"temporal_init": "random"}, "temporal_init"),
        ({"stages": (1, 2)}, "2, 3, 4 or 5"),
        ({"stages": ()}, "2, 3, 4 or 5"),
        ({"stages": "345"}, "2, 3, 4 or 5"),
        ({"blocks": "middle"}, "blocks"),
        ({"parts": "se", "fusion": "concat"}, "parts=se has one"),
        ({"parts": "me", "motion_input": "z"}, "parts=me has one"),
        ({"motion_input": "z", "fusion": "se_me"}, "serial"),
        ({"residual": "x", "order": "attention_first"}, "attention_first"),
        ({"place": "instead"}, "place"),
    ],
)
def test_impossible_choices_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        create_model("smnet_resnet18", 5, width=8, **options)


def test_stages_may_be_one_number_or_a_list() -> None:
    for stages in (5, [5], (5,)):
        model = create_model("smnet_resnet18", 5, width=8, stages=stages)
        assert {k.split(".")[0] for k in model.state_dict() if ".temporal." in k} == {"layer4"}


@pytest.mark.parametrize(("blocks", "index"), [("first", 0), ("last", 3), ("all", 2)])
def test_which_block_carries(blocks: Any, index: int) -> None:
    options = SMNetOptions(blocks=blocks, stages=(3,))
    assert options.applies_to(BlockSite(3, index, 4, 64, 16))
    assert not options.applies_to(BlockSite(4, index, 4, 64, 16))
    carried = [options.applies_to(BlockSite(3, i, 4, 64, 16)) for i in range(4)]
    assert sum(carried) == (4 if blocks == "all" else 1)


def test_shortcut_sees_the_raw_input() -> None:
    # With the residual branch silenced, a block without projection hands its input on.
    model = create_model("smnet_resnet50", 5, width=8).eval()
    randomise(model)
    block = model.get_submodule("layer1.1")
    for name in ("bn3.weight", "bn3.bias"):
        nn.init.zeros_(block.get_parameter(name))
    x = noise(4, 32, 6, 6).float().abs()
    torch.testing.assert_close(block(x, 4), x)


@pytest.mark.parametrize("place", ["before_conv1", "after_conv1"])
@pytest.mark.parametrize(
    ("options", "scale"),
    [
        ({}, 3.0),
        ({"fusion": "mean"}, 1.5),
        ({"fusion": "weighted"}, 3.0),
        ({"fusion": "se_me"}, 2.25),
        ({"fusion": "me_se"}, 2.25),
        ({"motion_input": "z"}, 3.0),
        ({"motion_input": "z", "residual": "x"}, 3.0),
        ({"parts": "se"}, 1.5),
        ({"parts": "se", "residual": "x"}, 1.5),
        ({"parts": "se", "attention": "none", "residual": "x"}, 1.0),
        ({"attention": "none"}, 2.5),
        ({"residual": "none"}, 2.0),
        ({"residual": "x"}, 3.0),
        ({"gate": "centred"}, 2.5),
        ({"gate": "centred", "attention": "none"}, 2.0),
        ({"order": "attention_first"}, 3.0),
        ({"order": "parallel", "residual": "none"}, 2.0),
    ],
)
@pytest.mark.parametrize(
    ("init", "start"), [("shift", partial_shift), ("difference", with_difference)]
)
def test_how_the_module_as_a_whole_starts(init, start, place, options, scale):
    """Else the input that the motion path adds would blur what comes from other frames."""
    options = {**options, "temporal_init": init}
    model = create_model("smnet_resnet18", 5, width=16, place=place, **options).eval()
    module = model.layer2[0].temporal
    channels = 16 if place == "before_conv1" else 32
    x = torch.randn(2 * 4, channels, 5, 6)
    torch.testing.assert_close(module(x, 4), scale * start(x, 4))


@pytest.mark.parametrize("place", ["before_conv1", "after_conv1"])
@pytest.mark.parametrize(
    ("options", "scale"),
    [
        ({}, 1.5),
        ({"fusion": "mean"}, 0.75),
        ({"fusion": "weighted"}, 1.5),
        ({"fusion": "se_me"}, 2.25),
        ({"fusion": "me_se"}, 2.25),
        ({"motion_input": "z"}, 3.0),
        ({"parts": "se"}, 1.5),
        ({"attention": "none"}, 1.0),
        ({"residual": "none"}, 0.5),
        ({"residual": "x"}, 0.5),
        ({"gate": "centred"}, 1.5),
        ({"order": "attention_first"}, 1.5),
    ],
)
@pytest.mark.parametrize("stages", [(2, 3, 4, 5), (4, 3), (5,)])
def test_the_first_stage_starts_with_motion_alone(stages, place, options, scale):
    model, other = (
        create_model("smnet_resnet18", 5, width=16, place=place, stages=stages, **options, **start)
        for start in ({"temporal_init": "motion"}, {})
    )
    first = f"layer{min(stages) - 1}"
    theirs = other.state_dict()
    for name, tensor in model.state_dict().items():
        if name.endswith("se.temporal.weight"):
            assert torch.equal(tensor, theirs[name]) == (not name.startswith(first)), name
    for block in model.eval().get_submodule(first):
        x = torch.randn(2 * 4, block.temporal.se.temporal.channels, 5, 6)
        torch.testing.assert_close(block.temporal(x, 4), scale * motion_alone(x, 4))


def test_instead_of_conv2_the_module_replaces_the_convolution_and_conv1_takes_the_stride():
    model = create_model("smnet_resnet50", 5, width=8, place="instead_of_conv2").eval()
    plain = create_model("tsn_resnet50", 5, width=8)
    block = model.layer2[0]
    assert block.conv2 is None
    assert block.conv1.stride == (2, 2)
    assert block.temporal.se.temporal.channels == 16
    assert model(torch.randn(2, 3, 3, 32, 32)).shape == (2, 5)
    load_weights(model, plain.state_dict())
    torch.testing.assert_close(block.conv3.weight, plain.layer2[0].conv3.weight)
    with pytest.raises(ValueError, match="before_conv1 or after_conv1"):
        create_model("smnet_resnet18", 5, place="instead_of_conv2")


def test_modules_in_a_row():
    once = create_model("smnet_resnet18", 5, width=8)
    thrice = create_model("smnet_resnet18", 5, width=8, repeat=3).eval()
    trunk = parameter_count(create_model("tsn_resnet18", 5, width=8))
    assert parameter_count(thrice) - trunk == 3 * (parameter_count(once) - trunk)
    x = torch.randn(4, 8, 6, 6)
    row = thrice.layer1[0].temporal
    torch.testing.assert_close(row(x, 2), row[2](row[1](row[0](x, 2), 2), 2))


def test_a_layer_with_fewer_channels_than_groups_is_channel_wise():
    """So the study of groups runs on narrow networks; the rule is that of ``groups``."""
    narrow = create_model("smnet_resnet18", 5, width=16, groups=32)
    found = [m for n, m in narrow.named_modules() if n.endswith("se.temporal")]
    assert [m.groups for m in found] == [min(m.channels, 32) for m in found]
    assert [m.groups for m in found] == [16, 16, 16, 32, 32, 32, 32, 32]
    assert "groups=16" in str(found[0])  # what was done can be seen
    with pytest.raises(ValueError, match="groups must divide the 48 channels, 32 does not"):
        create_model("smnet_resnet18", 5, width=24, groups=32)
