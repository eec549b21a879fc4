"""Checkpoints in the layouts of published programs, with random weights, and what those programs
compute from them, written naively from the published names.

Nothing here uses the names or the models of the package: it is what the converter is held against.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class Writer:
    """Makes random tensors; on ``device="meta"`` shapes alone."""

    def __init__(self, device: str = "cpu") -> None:
        self.state: State = {}
        self.device = device
        self.generator = torch.Generator().manual_seed(0)

    def put(self, name: str, *shape: int, low: float = -1.0, high: float = 1.0) -> None:
        if self.device == "meta":
            self.state[name] = torch.empty(shape, device="meta")
        else:
            value = torch.rand(shape, generator=self.generator)
            self.state[name] = low + (high - low) * value

    def conv(self, name: str, out: int, *into: int, bias: bool = False) -> None:
        spread = 1.5 * torch.Size(into).numel() ** -0.5
        self.put(f"{name}.weight", out, *into, low=-spread, high=spread)
        if bias:
            self.put(f"{name}.bias", out, low=-0.2, high=0.2)

    def norm(self, name: str, channels: int) -> None:
        self.put(f"{name}.weight", channels, low=0.5, high=1.5)
        self.put(f"{name}.bias", channels, low=-0.2, high=0.2)
        self.put(f"{name}.running_mean", channels, low=-0.2, high=0.2)
        self.put(f"{name}.running_var", channels, low=0.5, high=1.5)
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(7, device=self.device)


# --- plain names, and how each program changes them --------------------------------------------


def resnet(
    w: Writer,
    depth: int,
    width: int,
    conv_name: Callable[[str], str],
    norm_name: Callable[[str], str],
    part: Callable[[Writer, str, int, int], None] = lambda w, block, into, mid: None,
) -> int:
    """A ResNet under given names; ``part`` writes a block's temporal tensors. Its features."""
    w.conv(conv_name("conv1"), width, 3, 7, 7)
    w.norm(norm_name("bn1"), width)
    into, expansion = width, 4 if depth >= 50 else 1
    for stage, count in enumerate(BLOCKS[depth], start=1):
        planes = width * 2 ** (stage - 1)
        out = planes * expansion
        for index in range(count):
            block = f"layer{stage}.{index}"
            sides = (1, 3, 1) if depth >= 50 else (3, 3)
            channels = into
            for k, side in enumerate(sides, start=1):
                made = out if k == len(sides) else planes
                w.conv(conv_name(f"{block}.conv{k}"), made, channels, side, side)
                w.norm(norm_name(f"{block}.bn{k}"), made)
                channels = made
            part(w, block, into, planes)
            if index == 0 and (stage > 1 or into != out):
                w.conv(conv_name(f"{block}.downsample.0"), out, into, 1, 1)
                w.norm(norm_name(f"{block}.downsample.1"), out)
            into = out
    return into


def head(w: Writer, name: str, classes: int, features: int) -> State:
    w.conv(name, classes, features, bias=True)
    return w.state


def torchvision(depth: int, width: int = 64, classes: int = 5, device: str = "cpu") -> State:
    w = Writer(device)
    features = resnet(w, depth, width, str, str)
    return head(w, "fc", classes, features)


def wrapped(name: str, depth: int) -> bool:
    """Whether TSM's code wraps this convolution: conv1 of all blocks, or of every second."""
    step = 2 if BLOCKS[depth][2] >= 23 else 1
    return name.endswith(".conv1") and int(name.split(".")[1]) % step == 0


def tsm(
    depth: int, width: int = 64, classes: int = 5, shift: bool = True, device: str = "cpu"
) -> State:
    w = Writer(device)

    def conv_name(name: str) -> str:
        return f"base_model.{name}" + (".net" if shift and wrapped(name, depth) else "")

    features = resnet(w, depth, width, conv_name, lambda name: f"base_model.{name}")
    return head(w, "new_fc", classes, features)


def rgbdiff(depth: int, width: int = 64, classes: int = 5, device: str = "cpu") -> State:
    """TSN on 5 differences of RGB frames."""
    w = Writer(device)
    w.conv("base_model.conv1", width, 15, 7, 7)
    return tsm(depth, width, classes, shift=False, device=device) | w.state


def action(depth: int, width: int = 64, classes: int = 5, device: str = "cpu") -> State:
    w = Writer(device)

    def conv_name(name: str) -> str:
        return f"base_model.{name}" + (".net" if wrapped(name, depth) else "")

    def part(w: Writer, block: str, c: int, mid: int) -> None:
        if not wrapped(f"{block}.conv1", depth):
            return
        at, r = f"base_model.{block}.conv1.action_", max(c // 16, 1)
        w.conv(at + "shift", c, 1, 3)
        w.conv(at + "p1_conv1", 1, 1, 3, 3, 3)
        w.conv(at + "p2_squeeze", r, c, 1, 1)
        w.conv(at + "p2_conv1", r, r, 3)
        w.conv(at + "p2_expand", c, r, 1, 1)
        w.conv(at + "p3_squeeze", r, c, 1, 1)
        w.norm(at + "p3_bn1", r)
        w.conv(at + "p3_conv1", r, 1, 3, 3)
        w.conv(at + "p3_expand", c, r, 1, 1)

    features = resnet(w, depth, width, conv_name, lambda name: f"base_model.{name}", part)
    return head(w, "new_fc", classes, features)


def tam_part(w: Writer, at: str, c: int, t: int, g: str = "tam.G", l: str = "tam.L") -> None:  # noqa: E741
    r = max(c // 4, 1)
    w.conv(f"{at}.{g}.0", 2 * t, t)
    w.norm(f"{at}.{g}.1", 2 * t)
    w.conv(f"{at}.{g}.3", 3, 2 * t)
    w.conv(f"{at}.{l}.0", r, c, 3)
    w.norm(f"{at}.{l}.1", r)
    w.conv(f"{at}.{l}.3", c, r, 1)


def tam(
    depth: int,
    segments: int,
    width: int = 64,
    classes: int = 5,
    branches: tuple[str, str] = ("tam.G", "tam.L"),
    device: str = "cpu",
) -> State:
    w = Writer(device)

    def name(plain: str) -> str:
        block, dot, rest = plain.partition(".")
        number, _, rest = rest.partition(".")
        return f"base_model.{block}.{number}.net.{rest}" if dot else f"base_model.{plain}"

    def part(w: Writer, block: str, into: int, c: int) -> None:
        tam_part(w, f"base_model.{block}", c, segments, *branches)

    features = resnet(w, depth, width, name, name, part)
    return head(w, "new_fc", classes, features)


def mmaction2(
    depth: int,
    width: int = 64,
    classes: int = 5,
    shift: bool = False,
    tanet: int | None = None,
    device: str = "cpu",
) -> State:
    """MMAction2's TSN, TSM (``shift``) or TANet (``tanet`` segments)."""
    w = Writer(device)

    def name(plain: str, kind: str) -> str:
        words = plain.split(".")
        if "downsample" in words:
            words = [*words[:-1], kind]
        else:
            words = [*words[:-1], "conv" + words[-1][-1], kind]
        if tanet is not None and len(words) > 2:
            words.insert(2, "block")
        return "backbone." + ".".join(words)

    def conv_name(plain: str) -> str:
        return name(plain, "conv") + (".net" if shift and wrapped(plain, depth) else "")

    def part(w: Writer, block: str, into: int, c: int) -> None:
        if tanet is not None:
            tam_part(w, f"backbone.{block}", c, tanet)

    features = resnet(w, depth, width, conv_name, lambda plain: name(plain, "bn"), part)
    return head(w, "cls_head.fc_cls", classes, features)


SLOW = ((1,), (1,), (3,), (3,))
I3D = ((3,), (3, 1), (3, 1), (1, 3))


def mmaction2_3d(
    lengths: tuple[tuple[int, ...], ...], width: int, classes: int = 5, device: str = "cpu"
) -> State:
    """MMAction2's SlowOnly or I3D on ResNet-50, by the lengths of its kernels over time."""
    w = Writer(device)
    w.conv("backbone.conv1.conv", width, 3, 5 if lengths == I3D else 1, 7, 7)
    w.norm("backbone.conv1.bn", width)
    into = width
    for stage, count in enumerate(BLOCKS[50], start=1):
        c = width * 2 ** (stage - 1)
        for index in range(count):
            at, over = f"backbone.layer{stage}.{index}", lengths[stage - 1]
            sizes = ((over[index % len(over)], 1, 1), (1, 3, 3), (1, 1, 1))
            channels = (into, c, c, 4 * c)
            for k in range(3):
                w.conv(f"{at}.conv{k + 1}.conv", channels[k + 1], channels[k], *sizes[k])
                w.norm(f"{at}.conv{k + 1}.bn", channels[k + 1])
            if index == 0:
                w.conv(f"{at}.downsample.conv", 4 * c, into, 1, 1, 1)
                w.norm(f"{at}.downsample.bn", 4 * c)
            into = 4 * c
    return head(w, "cls_head.fc_cls", classes, into)


def tdn(depth: int, width: int = 64, classes: int = 5, device: str = "cpu") -> State:
    w = Writer(device)
    w.conv("base_model.conv1", width, 3, 7, 7, bias=True)
    w.norm("base_model.bn1", width)
    w.conv("base_model.conv1_temp", width, 3, 7, 7, bias=True)
    w.conv("base_model.conv1_5.0", width, 12, 7, 7)
    w.norm("base_model.conv1_5.1", width)
    entry = width
    for stage, count in enumerate(BLOCKS[depth], start=1):
        c = width * 2 ** (stage - 1)
        for layer in ("resnext_layer1", "layer1_bak") if stage == 1 else (f"layer{stage}_bak",):
            into = entry
            for index in range(count):
                at = f"base_model.{layer}.{index}"
                w.conv(f"{at}.conv1", c, into, 1, 1, bias=True)
                w.norm(f"{at}.bn1", c)
                if stage > 1:
                    r = max(c // 16, 1)
                    w.conv(f"{at}.mse.conv1", r, c, 1, 1)
                    w.norm(f"{at}.mse.bn1", r)
                    w.conv(f"{at}.mse.conv2", r, 1, 3, 3)
                    w.conv(f"{at}.mse.conv3", c, r, 1, 1)
                    w.norm(f"{at}.mse.bn3", c)
                    for scale in (2, 4):
                        w.conv(f"{at}.mse.conv3_smallscale{scale}", r, r, 3, 3)
                        w.norm(f"{at}.mse.bn3_smallscale{scale}", r)
                    w.conv(f"{at}.shift.conv", c, 1, 3)
                w.conv(f"{at}.conv2", c, c, 3, 3, bias=True)
                w.norm(f"{at}.bn2", c)
                w.conv(f"{at}.conv3", 4 * c, c, 1, 1, bias=True)
                w.norm(f"{at}.bn3", 4 * c)
                if index == 0:
                    w.conv(f"{at}.downsample.0", 4 * c, into, 1, 1, bias=True)
                    w.norm(f"{at}.downsample.1", 4 * c)
                into = 4 * c
        entry = 4 * c
    w.conv("new_fc", classes, entry, bias=True)
    return w.state


def tea(width: int = 64, classes: int = 5, device: str = "cpu") -> State:
    w = Writer(device)
    w.conv("base_model.conv1", width, 3, 7, 7)
    w.norm("base_model.bn1", width)
    into = width
    for stage, count in enumerate(BLOCKS[50], start=1):
        planes = width * 2 ** (stage - 1)
        part = planes * 26 // 64
        c, r = 4 * part, max(4 * part // 16, 1)
        for index in range(count):
            at = f"base_model.layer{stage}.{index}"
            w.conv(f"{at}.conv1", c, into, 1, 1)
            w.norm(f"{at}.bn1", c)
            for i in range(3):
                w.conv(f"{at}.convs.{i}", part, part, 3, 3)
                w.norm(f"{at}.bns.{i}", part)
            w.conv(f"{at}.conv3", 4 * planes, c, 1, 1)
            w.norm(f"{at}.bn3", 4 * planes)
            if index == 0:
                w.conv(f"{at}.downsample.0", 4 * planes, into, 1, 1)
                w.norm(f"{at}.downsample.1", 4 * planes)
            w.conv(f"{at}.me.conv1", r, c, 1, 1)
            w.norm(f"{at}.me.bn1", r)
            w.conv(f"{at}.me.conv2", r, 1, 3, 3)
            w.conv(f"{at}.me.conv3", c, r, 1, 1)
            w.norm(f"{at}.me.bn3", c)
            for i in range(4):
                w.conv(f"{at}.shifts.{i}.conv", part, 1, 3)
            into = 4 * planes
    w.conv("new_fc", classes, into, bias=True)
    return w.state


# (expansion, channels, blocks, stride), as in the article
MOBILE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1))
MOBILE += ((6, 160, 3, 2), (6, 320, 1, 1))


def mobilenetv2(classes: int = 5, shift: bool = True, device: str = "cpu") -> State:
    """TSM's MobileNetV2: each block one flat sequence."""
    w = Writer(device)
    w.conv("base_model.features.0.0", 32, 3, 3, 3)
    w.norm("base_model.features.0.1", 32)
    into, number = 32, 1
    for expansion, out, count, stride in MOBILE:
        for index in range(count):
            at, hidden = f"base_model.features.{number}.conv", into * expansion
            start = 0
            if expansion > 1:
                residual = into == out and (stride == 1 or index > 0)
                w.conv(f"{at}.0" + (".net" if shift and residual else ""), hidden, into, 1, 1)
                w.norm(f"{at}.1", hidden)
                start = 3
            w.conv(f"{at}.{start}", hidden, 1, 3, 3)
            w.norm(f"{at}.{start + 1}", hidden)
            w.conv(f"{at}.{start + 3}", out, hidden, 1, 1)
            w.norm(f"{at}.{start + 4}", out)
            into, number = out, number + 1
    w.conv("base_model.features.18.0", 1280, into, 1, 1)
    w.norm("base_model.features.18.1", 1280)
    w.conv("base_model.classifier", classes, 1280, bias=True)
    return w.state


def mmaction2_names() -> dict[str, str]:
    """MMAction2's name of each convolution and normalisation of TSM's MobileNetV2 above."""
    names = {"base_model.classifier": "cls_head.fc_cls"}
    for flat, theirs in (("0", "conv1"), ("18", "conv2")):
        names[f"base_model.features.{flat}.0"] = f"backbone.{theirs}.conv"
        names[f"base_model.features.{flat}.1"] = f"backbone.{theirs}.bn"
    number = 1
    for layer, (expansion, _, count, _) in enumerate(MOBILE, start=1):
        for index in range(count):
            flat = f"base_model.features.{number}.conv"
            block = f"backbone.layer{layer}.{index}.conv"
            # Modules of convolution, normalisation and, but in the last, ReLU6; a shift wraps the
            # first module of a block with expansion and shortcut.
            for module in range(3 if expansion > 1 else 2):
                first = module == 0 and expansion > 1 and index > 0
                for step, part in enumerate(("conv", "bn")):
                    net = ".net" if first else ""
                    names[f"{flat}.{3 * module + step}"] = f"{block}.{module}{net}.{part}"
            number += 1
    return names


def mmaction2_mobilenetv2(shift: bool = True) -> State:
    """MMAction2's MobileNetV2, of TSM or of TSN."""
    names = mmaction2_names()
    found = {}
    for key, tensor in mobilenetv2(shift=shift).items():
        owner, _, kind = key.rpartition(".")
        theirs = names[owner.removesuffix(".net")]
        found[f"{theirs if shift else theirs.replace('.net', '')}.{kind}"] = tensor
    return found


# --- what the programs compute -----------------------------------------------------------------


class Net:
    """The arithmetic on the tensors of a file, in double precision, folded frames (B*T, ...)."""

    def __init__(self, state: State, segments: int) -> None:
        self.s = {k: v.double() for k, v in state.items()}
        self.t = segments

    def conv(self, x: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = self.s[f"{name}.weight"]
        bias = self.s.get(f"{name}.bias")
        return F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2, groups=groups)

    def norm(self, x: Tensor, name: str) -> Tensor:
        mean, var, gain, bias = (
            self.s[f"{name}.{part}"].reshape(1, -1, *[1] * (x.dim() - 2))
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(var + 1e-5) * gain + bias

    def over_time(self, x: Tensor, name: str) -> Tensor:
        weight = self.s[f"{name}.weight"]
        b, (_, c, h, w) = x.shape[0] // self.t, x.shape
        lines = x.view(b, self.t, c, h, w).permute(0, 3, 4, 2, 1).reshape(-1, c, self.t)
        y = F.conv1d(lines, weight, padding=1, groups=c // weight.shape[1])
        return y.view(b, h, w, c, self.t).permute(0, 4, 3, 1, 2).reshape(-1, c, h, w)

    def shift(self, x: Tensor, div: int = 8) -> Tensor:
        fold, y = x.shape[1] // div, x.clone()
        for n in range(x.shape[0]):
            t = n % self.t
            y[n, :fold] = 0 if t == self.t - 1 else x[n + 1, :fold]
            y[n, fold : 2 * fold] = 0 if t == 0 else x[n - 1, fold : 2 * fold]
        return y

    def difference(self, base: Tensor, moved: Tensor, step: int) -> Tensor:
        """moved[t + step] - base[t], zero where there is no t + step."""
        d = torch.zeros_like(base)
        for n in range(base.shape[0]):
            if 0 <= n % self.t + step < self.t:
                d[n] = moved[n + step] - base[n]
        return d

    def stem(self, x: Tensor, conv: str, norm: str) -> Tensor:
        return F.max_pool2d(self.norm(self.conv(x, conv, 2), norm).relu(), 3, 2, 1)

    def scores(self, x: Tensor, name: str) -> Tensor:
        pooled = x.mean((2, 3))
        logits = pooled @ self.s[f"{name}.weight"].T + self.s[f"{name}.bias"]
        return logits.view(-1, self.t, logits.shape[1]).mean(1)

    def blocks(self, layer: str) -> list[str]:
        numbers = {int(k[len(layer) + 1 :].split(".")[0]) for k in self.s if k.startswith(layer)}
        return [f"{layer}.{i}" for i in sorted(numbers)]

    # the temporal parts

    def action(self, x: Tensor, at: str) -> Tensor:
        s = self.over_time(x, at + "shift")
        clips = s.view(-1, self.t, *s.shape[1:]).mean(2)[:, None]  # (B, 1, T, H, W)
        mask = F.conv3d(clips, self.s[at + "p1_conv1.weight"], padding=1)
        p1 = s + s * torch.sigmoid(mask.reshape(-1, 1, *s.shape[2:]))
        z = self.conv(s.mean((2, 3), keepdim=True), at + "p2_squeeze")
        z = self.over_time(z, at + "p2_conv1").relu()
        p2 = s + s * torch.sigmoid(self.conv(z, at + "p2_expand"))
        f = self.norm(self.conv(s, at + "p3_squeeze"), at + "p3_bn1")
        moved = self.conv(f, at + "p3_conv1", groups=f.shape[1])
        d = self.difference(f, moved, 1).mean((2, 3), keepdim=True)
        return p1 + p2 + s + s * torch.sigmoid(self.conv(d, at + "p3_expand"))

    def tam(self, x: Tensor, g: str, l: str) -> Tensor:  # noqa: E741
        b, (_, c, h, w) = x.shape[0] // self.t, x.shape
        clips = x.view(b, self.t, c, h, w).transpose(1, 2)  # (B, C, T, H, W)
        z = clips.mean((3, 4))
        hidden = self.norm(z.reshape(-1, self.t) @ self.s[f"{g}.0.weight"].T, f"{g}.1").relu()
        kernel = torch.softmax(hidden @ self.s[f"{g}.3.weight"].T, 1).view(b, c, 3)
        local = F.conv1d(z, self.s[f"{l}.0.weight"], padding=1)
        gate = torch.sigmoid(F.conv1d(self.norm(local, f"{l}.1").relu(), self.s[f"{l}.3.weight"]))
        gated = clips * gate[..., None, None]
        y = torch.zeros_like(gated)
        for t in range(self.t):
            for k in range(3):
                if 0 <= t + k - 1 < self.t:
                    y[:, :, t] += kernel[:, :, k, None, None] * gated[:, :, t + k - 1]
        return y.transpose(1, 2).reshape(-1, c, h, w)

    def tdn_part(self, x: Tensor, at: str) -> Tensor:
        mse = at + ".mse."
        f = self.norm(self.conv(x, mse + "conv1"), mse + "bn1")
        moved = self.conv(f, mse + "conv2", groups=f.shape[1])
        total = torch.zeros_like(x)
        for step in (1, -1):
            d = self.difference(f, moved, step)
            small = F.avg_pool2d(d, 2)
            small = self.norm(self.conv(small, mse + "conv3_smallscale2"), mse + "bn3_smallscale2")
            large = self.norm(self.conv(d, mse + "conv3_smallscale4"), mse + "bn3_smallscale4")
            mixed = (d + F.interpolate(small, d.shape[2:]) + large) / 3
            total += torch.sigmoid(self.norm(self.conv(mixed, mse + "conv3"), mse + "bn3")) - 0.5
        return self.over_time(x + x * total / 2, at + ".shift.conv")

    # the networks

    def plain(
        self,
        clips: Tensor,
        fc: str,
        conv: Callable[[str], str],
        norm: Callable[[str], str],
        before: Callable[[Tensor, str], Tensor] = lambda x, block: x,
        after: Callable[[Tensor, str], Tensor] = lambda x, block: x,
        depth: int = 50,
    ) -> Tensor:
        """A ResNet by its plain names, which ``conv`` and ``norm`` turn into the file's."""
        x = self.stem(clips.flatten(0, 1), conv("conv1"), norm("bn1"))
        last = 3 if depth >= 50 else 2
        for stage, count in enumerate(BLOCKS[depth], start=1):
            for index in range(count):
                block = f"layer{stage}.{index}"
                stride = 2 if stage > 1 and index == 0 else 1
                y = before(x, block)
                for k in range(1, last + 1):
                    here = stride if k == last - 1 else 1
                    y = self.norm(
                        self.conv(y, conv(f"{block}.conv{k}"), here), norm(f"{block}.bn{k}")
                    )
                    y = y.relu() if k < last else y
                    y = after(y, block) if k == 1 else y
                if conv(f"{block}.downsample.0") + ".weight" in self.s:
                    x = self.conv(x, conv(f"{block}.downsample.0"), stride)
                    x = self.norm(x, norm(f"{block}.downsample.1"))
                x = (x + y).relu()
        return self.scores(x, fc)

    def mmaction2_3d(self, clips: Tensor, i3d: bool) -> Tensor:
        """ResNet3d by its configuration: I3D halves the frames in the stem, in the pooling after
        it and after the first stage."""

        def unit(x: Tensor, name: str, *stride: int) -> Tensor:
            weight = self.s[f"{name}.conv.weight"]
            padding = [side // 2 for side in weight.shape[2:]]
            return self.norm(F.conv3d(x, weight, None, stride or 1, padding), f"{name}.bn")

        over = 2 if i3d else 1
        x = unit(clips.transpose(1, 2), "backbone.conv1", over, 2, 2).relu()
        x = F.max_pool3d(x, (1, 3, 3), (over, 2, 2), (0, 1, 1))
        for stage, count in enumerate(BLOCKS[50], start=1):
            for index in range(count):
                at, stride = f"backbone.layer{stage}.{index}", 2 if stage > 1 and index == 0 else 1
                y = unit(x, f"{at}.conv1").relu()
                y = unit(unit(y, f"{at}.conv2", 1, stride, stride).relu(), f"{at}.conv3")
                if index == 0:
                    x = unit(x, f"{at}.downsample", 1, stride, stride)
                x = (x + y).relu()
            if stage == 1 and i3d:
                x = F.max_pool3d(x, (2, 1, 1), (2, 1, 1))
        head = "cls_head.fc_cls"
        return x.mean((2, 3, 4)) @ self.s[f"{head}.weight"].T + self.s[f"{head}.bias"]

    def tdn(self, clips: Tensor, share: float) -> Tensor:
        p = "base_model."
        five = clips.reshape(-1, 5, *clips.shape[2:])
        d = torch.cat([five[:, i + 1] - five[:, i] for i in range(4)], 1)
        early = self.stem(F.avg_pool2d(d, 2), p + "conv1_5.0", p + "conv1_5.1")
        x = self.stem(five[:, 2], p + "conv1", p + "bn1")
        x = (1 - share) * x + share * F.interpolate(early, x.shape[2:])
        late = early
        for layer in ("resnext_layer1", "layer1_bak", "layer2_bak", "layer3_bak", "layer4_bak"):
            y = late if layer == "resnext_layer1" else x
            for index, at in enumerate(self.blocks(p + layer)):
                stride = 2 if index == 0 and "layer1" not in layer else 1
                z = self.norm(self.conv(y, at + ".conv1"), at + ".bn1").relu()
                if "layer1" not in layer:
                    z = self.tdn_part(z, at)
                z = self.norm(self.conv(z, at + ".conv2", stride), at + ".bn2").relu()
                z = self.norm(self.conv(z, at + ".conv3"), at + ".bn3")
                if index == 0:
                    y = self.norm(self.conv(y, at + ".downsample.0", stride), at + ".downsample.1")
                y = (y + z).relu()
            if layer == "resnext_layer1":
                late = y
                continue
            x = y
            if layer == "layer1_bak":
                x = (1 - share) * x + share * F.interpolate(late, x.shape[2:])
        return self.scores(x, "new_fc")

    def tea(self, clips: Tensor) -> Tensor:
        p = "base_model."
        x = self.stem(clips.flatten(0, 1), p + "conv1", p + "bn1")
        for stage in range(1, 5):
            for index, at in enumerate(self.blocks(f"{p}layer{stage}")):
                stride = 2 if stage > 1 and index == 0 else 1
                y = self.norm(self.conv(x, at + ".conv1"), at + ".bn1").relu()
                f = self.norm(self.conv(y, at + ".me.conv1"), at + ".me.bn1")
                moved = self.conv(f, at + ".me.conv2", groups=f.shape[1])
                d = self.difference(f, moved, 1).mean((2, 3), keepdim=True)
                gate = torch.sigmoid(self.norm(self.conv(d, at + ".me.conv3"), at + ".me.bn3"))
                y = y + y * (gate - 0.5)
                outs: list[Tensor] = []
                for i, z in enumerate(y.chunk(4, 1)):
                    z = z + outs[-1] if 0 < i < 3 and index > 0 else z
                    z = self.over_time(z, f"{at}.shifts.{i}.conv")
                    if i < 3:
                        z = self.norm(
                            self.conv(z, f"{at}.convs.{i}", stride), f"{at}.bns.{i}"
                        ).relu()
                    elif index == 0:
                        z = F.avg_pool2d(z, 3, stride, 1)
                    outs.append(z)
                y = self.norm(self.conv(torch.cat(outs, 1), at + ".conv3"), at + ".bn3")
                if index == 0:
                    x = self.norm(self.conv(x, at + ".downsample.0", stride), at + ".downsample.1")
                x = (x + y).relu()
        return self.scores(x, "new_fc")

    def mobilenetv2(self, clips: Tensor) -> Tensor:
        p = "base_model.features."
        x = self.norm(self.conv(clips.flatten(0, 1), p + "0.0", 2), p + "0.1").clamp(0, 6)
        number = 1
        for expansion, out, count, stride in MOBILE:
            for index in range(count):
                at, y, start = f"{p}{number}.conv.", x, 0
                residual = x.shape[1] == out and (stride == 1 or index > 0)
                if expansion > 1:
                    first = at + "0"
                    if first + ".net.weight" in self.s:
                        y, first = self.shift(y), first + ".net"
                    y = self.norm(self.conv(y, first), at + "1").clamp(0, 6)
                    start = 3
                step = stride if index == 0 else 1
                y = self.conv(y, f"{at}{start}", step, groups=y.shape[1])
                y = self.norm(y, f"{at}{start + 1}").clamp(0, 6)
                y = self.norm(self.conv(y, f"{at}{start + 3}"), f"{at}{start + 4}")
                x = x + y if residual else y
                number += 1
        x = self.norm(self.conv(x, p + "18.0"), p + "18.1").clamp(0, 6)
        return self.scores(x, "base_model.classifier")
