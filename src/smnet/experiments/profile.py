"""What models cost: parameters, multiply-adds, memory of training and time, side by side."""

from __future__ import annotations

import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from smnet.distributed import choose_device
from smnet.errors import UserError
from smnet.experiments.study import Variant, read_models
from smnet.models import VideoModel, list_models, parameter_count, to_channels_last
from smnet.models.base import on_meta
from smnet.models.registry import new_model
from smnet.system import describe_machine

CLASSES = 174
"""Classes of the profiled models, those of Something-Something."""


@dataclass(frozen=True)
class Part:
    """A stage or a temporal module of a model.

    Attributes:
        name: of the stage, or of the module in the model.
        parameters: learned values in it.
        macs: multiply-adds of one clip in it.
    """

    name: str
    parameters: int
    macs: int


@dataclass
class Profile:
    """What one model costs.

    Attributes:
        model: its name, with options of its own.
        parameters: learned values.
        macs: multiply-adds of one clip.
        saved: bytes that a forward pass keeps for the backward pass, a clip, without the weights.
        forward, step: seconds of a batch through the network, and of a training step; medians.
        stages: all of the model, in the order of its layers.
        temporal: the temporal modules, which are part of the stages too.
    """

    model: str
    parameters: int
    macs: int
    saved: int
    forward: float
    step: float
    stages: list[Part] = field(default_factory=list)
    temporal: list[Part] = field(default_factory=list)

    def share(self, quantity: str) -> float:
        """The share of the temporal modules in ``"parameters"`` or ``"macs"``."""
        return sum(getattr(part, quantity) for part in self.temporal) / getattr(self, quantity)


@dataclass(frozen=True)
class Comparison:
    """Profiles measured in turn on one machine; times are relative to ``reference``."""

    profiles: list[Profile]
    reference: Profile
    segments: int
    size: int
    batch: int
    device: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: seconds, bytes, and the ratios to the reference."""
        return {
            "machine": describe_machine(),
            "device": self.device,
            "segments": self.segments,
            "size": self.size,
            "batch": self.batch,
            "reference": self.reference.model,
            "models": [
                {
                    "model": p.model,
                    "parameters": p.parameters,
                    "gmacs": p.macs / 1e9,
                    "saved_bytes": p.saved,
                    "forward_seconds": p.forward,
                    "step_seconds": p.step,
                    "forward_ratio": p.forward / self.reference.forward,
                    "step_ratio": p.step / self.reference.step,
                    "temporal_parameters": p.share("parameters"),
                    "temporal_macs": p.share("macs"),
                    "stages": [vars(part) for part in p.stages],
                    "temporal": [vars(part) for part in p.temporal],
                }
                for p in self.profiles
            ],
        }


def profile(
    names: Sequence[str],
    *,
    segments: int = 8,
    size: int = 224,
    batch: int = 1,
    options: Mapping[str, Any] | None = None,
    device: str = "auto",
    rounds: int = 5,
) -> Comparison:
    """Measure models side by side.

    Times are relative to TSN on the trunk of the first model: the first among the models, or else
    one of the same width that is measured along. A trunk without TSN is measured against the first
    model itself.

    Args:
        names: models, see ``smnet models``, each with options of its own after colons
            (``smnet_resnet50:place=after_conv1``).
        segments, size, batch: T, the side of the crops in pixels, clips in a timed batch.
        options: of every model.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` ...
        rounds: timed turns of each model, after one that warms up.

    Raises:
        UserError: an unknown model or option, an input that a model cannot take, too little memory.
    """
    place = choose_device(device)
    given = dict(options or {})
    rows = [row for name in names for row in read_models(name)]
    everyone = {row.label: row for row in rows}
    if len(everyone) < len(rows):
        raise UserError(f"a model is named twice: {', '.join(names)}")
    unit = _unit(rows)
    everyone.setdefault(unit.label, unit)
    models, profiles = [], []
    try:
        for name, row in everyone.items():
            shared = given if row in rows else {k: v for k, v in given.items() if k == "width"}
            model = _built(row, segments, shared)
            stages, temporal = parts_of(model, size)
            profiles.append(
                Profile(
                    name,
                    parameter_count(model),
                    sum(part.macs for part in stages),
                    saved_for_backward(model, size, place),
                    0.0,
                    0.0,
                    stages,
                    temporal,
                )
            )
            models.append(model)
        forward, step = times(models, size, batch, place, rounds)
    except torch.OutOfMemoryError:
        raise UserError("the memory does not suffice; use a smaller --batch or --size") from None
    except (ValueError, RuntimeError) as error:
        raise UserError(str(error).strip().splitlines()[0]) from None
    for one, passed, stepped in zip(profiles, forward, step, strict=True):
        one.forward, one.step = passed, stepped
    return Comparison(
        profiles[: len(rows)],
        profiles[list(everyone).index(unit.label)],
        segments,
        size,
        batch,
        place.type,
    )


def _unit(rows: list[Variant]) -> Variant:
    """The model in whose times the others are given."""
    first = rows[0]
    name = f"tsn_{first.model.partition('_')[2]}"
    if not list_models(name):
        return first
    width = {k: v for k, v in first.options.items() if k == "width"}
    along = Variant(":".join([name, *(f"{k}={v}" for k, v in width.items())]), name, width)
    return next((row for row in rows if row.model == name), along)


def _built(row: Variant, segments: int, shared: dict[str, Any]) -> VideoModel:
    try:
        return new_model(row.model, CLASSES, segments, {**shared, **row.options})
    except ValueError as error:
        raise row.refused(error) from None


def parts_of(model: VideoModel, size: int) -> tuple[list[Part], list[Part]]:
    """The stages of a model, which together are all of it, and its temporal modules.

    Every multiply-add is counted, as :func:`smnet.models.multiply_adds` does, for the innermost
    module that it happens in.
    """
    macs = _macs_by_module(model, size)
    stages: dict[str, Counter[str]] = {}
    temporal: dict[str, Counter[str]] = {}

    def add(name: str, quantity: str, count: int) -> None:
        if count or quantity == "parameters":
            stages.setdefault(_stage(name), Counter())[quantity] += count
        found = re.match(r"(?:.*?\.)?temporal(?=\.|$)", name)
        if found:
            temporal.setdefault(found[0], Counter())[quantity] += count

    for name, parameter in model.named_parameters():
        add(name.rpartition(".")[0], "parameters", parameter.numel())
    for name, module in model.named_modules():
        if name.endswith("temporal"):  # also where it learns nothing and multiplies nothing
            add(name, "parameters", 0)
        add(name, "macs", macs[name] if module is not model else 0)
    add("", "macs", macs[""])

    def listed(found: dict[str, Counter[str]]) -> list[Part]:
        return [Part(name, c["parameters"], c["macs"]) for name, c in found.items()]

    order = list(dict.fromkeys(_stage(name) for name, _ in model.named_modules()))
    ranked = sorted(listed(stages), key=lambda part: (part.name == "head", order.index(part.name)))
    return ranked, listed(temporal)


def _macs_by_module(model: VideoModel, size: int) -> Counter[str]:
    shadow = on_meta(model).eval()
    counter = FlopCounterMode(display=False)
    macs: Counter[str] = Counter()
    inside: list[str] = [""]
    seen = 0

    def note() -> None:
        nonlocal seen
        total = int(counter.get_total_flops())
        macs[inside[-1]] += (total - seen) // 2
        seen = total

    def enter(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            note()
            inside.append(name)
            if hasattr(module, "uncounted_multiply_adds"):
                macs[name] += module.uncounted_multiply_adds(*args)  # type: ignore[operator]

        return hook

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        note()
        inside.pop()

    for name, module in shadow.named_modules():
        if module is not shadow:
            module.register_forward_pre_hook(enter(name))
            module.register_forward_hook(leave)
    spec = model.spec
    with torch.no_grad(), counter:
        shadow(torch.empty(1, spec.frames_per_clip, 3, size, size, device="meta"))
        note()
    return macs


def _stage(name: str) -> str:
    """The stage that a module stands in: the stem, res2 to res5, the head, or a part's own name."""
    first, _, rest = name.partition(".")
    if first.startswith("layer") and first[5:].isdecimal():
        return f"res{int(first[5:]) + 1}"
    if first == "features":
        return f"features.{rest.partition('.')[0]}"
    stem = ("", "conv1", "bn1", "relu", "maxpool")
    return "stem" if first in stem else "head" if first in ("fc", "dropout") else first


def saved_for_backward(model: VideoModel, size: int, device: torch.device) -> int:
    """Bytes that autograd keeps of one clip between forward and backward, each storage once.

    Weights and running statistics are there anyway and do not count; the clip itself does.
    """
    model = model.to(device).train()
    to_channels_last(model)
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(_clips(model, 1, size, device)).sum()
    del loss
    return sum(kept.values())


def times(
    models: Sequence[VideoModel], size: int, batch: int, device: torch.device, rounds: int
) -> tuple[list[float], list[float]]:
    """Median seconds of a forward pass and of a training step of each model.

    The models take turns, so that what else the machine does hits all alike. A step is forward,
    cross-entropy, backward and SGD with momentum, in full precision.
    """
    forward: list[list[float]] = [[] for _ in models]
    step: list[list[float]] = [[] for _ in models]
    labels = torch.arange(batch, device=device) % CLASSES
    inputs = [_clips(model, batch, size, device) for model in models]
    optimizers = [torch.optim.SGD(m.parameters(), lr=1e-6, momentum=0.9) for m in models]
    for model in models:
        to_channels_last(model.to(device))

    def timed(call: Callable[[], object]) -> float:
        _finish(device)
        began = time.perf_counter()
        call()
        _finish(device)
        return time.perf_counter() - began

    def learn(model: VideoModel, clips: Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(clips), labels).backward()
        optimizer.step()

    for turn in range(rounds + 1):
        for k, (model, clips) in enumerate(zip(models, inputs, strict=True)):
            with torch.inference_mode():
                model.eval()
                passed = timed(lambda: model(clips))  # noqa: B023
            model.train()
            stepped = timed(lambda: learn(model, clips, optimizers[k]))  # noqa: B023
            if turn:  # the first warms up
                forward[k].append(passed)
                step[k].append(stepped)
    return [statistics.median(t) for t in forward], [statistics.median(t) for t in step]


def _clips(model: VideoModel, batch: int, size: int, device: torch.device) -> Tensor:
    return torch.randn(batch, model.spec.frames_per_clip, 3, size, size, device=device)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
