"""The published repositories beside this package: equal scores from equal weights, and the cost.

    git clone https://github.com/mit-han-lab/temporal-shift-module originals/temporal-shift-module
    git clone https://github.com/liu-zhy/temporal-adaptive-module originals/temporal-adaptive-module
    git clone https://github.com/V-Sense/ACTION-Net originals/ACTION-Net
    git clone https://github.com/MCG-NJU/TDN originals/TDN
    pip install torchvision
    python benchmarks/originals.py originals/

The networks are built by the published code, on ResNet-50 with random weights and statistics,
saved as it saves them, and read by ``smnet.checkpoints.convert``. Scores and the gradient of the
input are compared in float64. Then all take turns, as in cost.py, and cost is relative to the
original TSN. The published code runs unchanged except in three points: it downloads no weights,
its consensus function, of a form that PyTorch has removed, is replaced by the mean that it
computes, and batch normalisation is not frozen, as in its commands for Something-Something. TEA
is not included: its published code has a syntax error.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

import cost
from common import parse, parser, publish, table
from smnet.checkpoints.convert import convert
from smnet.experiments.profile import forward_pass
from smnet.measure import clock_for, in_turns
from smnet.models import VideoModel
from smnet.system import keep_freed_memory

SEGMENTS, CLASSES = 8, 174
# Family: folder of the repository, module of its network, arguments of its constructor.
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "tsn": ("temporal-shift-module", "ops.models", {}),
    "tsm": ("temporal-shift-module", "ops.models", {"is_shift": True}),
    "tam": ("temporal-adaptive-module", "ops.models", {"tam": True}),
    "action": ("ACTION-Net", "models.models", {"is_shift": True}),
    "tdn": ("TDN", "ops.models", {}),
}
THEIRS = "original "
SMNET = ("smnet_resnet50", "smnet_resnet50:place=after_conv1")


class Original(nn.Module):
    """A published network with our interface: (B, F, 3, H, W) -> (B, classes)."""

    def __init__(self, network: nn.Module, frames_per_clip: int) -> None:
        super().__init__()
        self.network = network
        self.spec = SimpleNamespace(frames_per_clip=frames_per_clip)

    def forward(self, clips: Tensor) -> Tensor:
        return self.network(clips.flatten(1, 2))


class Mean(nn.Module):
    def forward(self, logits: Tensor) -> Tensor:
        return logits.mean(1, keepdim=True)


def original(root: Path, family: str) -> Original:
    folder, module, options = FAMILIES[family]
    arguments = {"base_model": "resnet50", "dropout": 0.5, "partial_bn": False, **options}
    with _importing(root / folder), contextlib.redirect_stdout(io.StringIO()):
        if family == "tdn":
            _without_weights(importlib.import_module("ops.tdn_net"), "fbresnet50")
        network = importlib.import_module(module).TSN(CLASSES, SEGMENTS, "RGB", **arguments)
    network.consensus = Mean()
    return Original(network, SEGMENTS * (5 if family == "tdn" else 1))


@contextlib.contextmanager
def _importing(folder: Path) -> Iterator[None]:
    """Import from this repository. All repositories use the same package names."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("ops", "models", "archs")]:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _without_weights(module: Any, name: str) -> None:
    """Make ``module.name(segments, pretrained)`` ignore ``pretrained``."""
    published = getattr(module, name)
    setattr(module, name, lambda *args: published(*args[:1]))


def prepare_torchvision() -> None:
    """Import torchvision, which the published code needs.

    Its wheel declares operators of its compiled part, which does not load beside a CPU build of
    PyTorch and is not needed here.
    """
    try:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for missing in ("nms", "qnms"):
            library.define(f"{missing}(Tensor dets, Tensor scores, float threshold) -> Tensor")
        import torchvision
    except ImportError:
        sys.exit("originals.py: the originals import torchvision: pip install torchvision")
    published = torchvision.models.resnet50
    torchvision.models.resnet50 = lambda *_: published()


def randomised(network: Original) -> Original:
    """Set random statistics, scales and head, with scores of about one."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
                module.weight.normal_(0.5, 0.1)
                module.bias.normal_(0, 0.2)
        network.network.new_fc.weight.normal_(0, 0.05)  # type: ignore[union-attr, operator]
    return network


def converted(network: Original, family: str, folder: Path) -> VideoModel:
    """Save the network as its own code does (ACTION without ``module.``) and convert it."""
    prefix = "" if family == "action" else "module."
    state = {f"{prefix}{key}": tensor for key, tensor in network.network.state_dict().items()}
    file = folder / f"{family}.pth.tar"
    torch.save({"epoch": 50, "arch": "resnet50", "state_dict": state, "best_prec1": 0.0}, file)
    return convert(file, segments=SEGMENTS).checkpoint.build()


def differences(theirs: Original, ours: VideoModel, size: int) -> tuple[float, float]:
    """Largest difference of scores and of the input gradient, relative to the largest value."""
    clip = cost.clip_for(ours, size).double()
    found = []
    for network in (theirs.double().eval(), ours.double().eval()):
        seen = clip.clone().requires_grad_()
        scores = network(seen)
        scores.square().sum().backward()
        found.append((scores.detach(), seen.grad))
    pairs = zip(*found, strict=True)
    scores, gradient = (float((a - b).abs().max() / a.abs().max()) for a, b in pairs)
    return scores, gradient


def build(root: Path, word: str) -> nn.Module:
    if not word.startswith(THEIRS):
        return cost.build(word)
    prepare_torchvision()
    return original(root, word.removeprefix(THEIRS).removesuffix("_resnet50"))


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("folder", type=Path, help="folder of the cloned repositories")
    arguments.add_argument("--size", type=int, default=224)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--threads", type=int, default=1)
    given = parse(arguments)
    for folder, _, _ in FAMILIES.values():
        if not (given.folder / folder).is_dir():
            sys.exit(f"originals.py: {given.folder / folder} is not there (see --help)")
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    prepare_torchvision()
    torch.manual_seed(0)
    equality = {}
    for family in FAMILIES:
        theirs = randomised(original(given.folder, family))
        with tempfile.TemporaryDirectory() as folder:
            ours = converted(theirs, family, Path(folder))
        equality[family] = differences(theirs, ours, given.size)
        scores, gradient = equality[family]
        print(f"{family}: scores differ by {scores:.0e}, gradients by {gradient:.0e}", flush=True)

    words = [f"{who}{family}_resnet50" for family in FAMILIES for who in (THEIRS, "")]
    words += SMNET
    make = partial(build, given.folder)
    networks = [make(word) for word in words]
    clips = [cost.clip_for(network, given.size) for network in networks]
    calls = [
        partial(do, network, clip)
        for network, clip in zip(networks, clips, strict=True)
        for do in (forward_pass, cost.step)
    ]
    timings = in_turns(calls, given.rounds, clock=clock_for(given.threads))
    memory = [cost.peak_bytes(word, given.size, make) for word in words]
    cells = [
        [
            word,
            str(timings.ratio(2 * k)),
            str(timings.ratio(2 * k + 1, 1)),
            f"{memory[k] / memory[0]:.2f}",
        ]
        for k, word in enumerate(words)
    ]
    equal = [[family, f"{a:.0e}", f"{b:.0e}"] for family, (a, b) in equality.items()]
    differ = table(["family", "scores", "gradient of the input"], equal)
    publish(given, "originals", "Differences of scores and gradients", differ)
    costs = table(["model", "forward", "training step", "peak memory"], cells)
    publish(given, "originals", "Cost", costs, timings.warning)


if __name__ == "__main__":
    main()
