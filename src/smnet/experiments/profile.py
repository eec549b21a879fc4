"""The cost of models side by side: parameters, multiply-adds, training memory and time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smnet.distributed import choose_device
from smnet.errors import UserError
from smnet.experiments.study import Candidate, read_models
from smnet.measure import Ratio, Timings, clock_for, in_turns
from smnet.models import VideoModel, accelerate, list_models, parameter_count, to_channels_last
from smnet.models.base import multiply_adds_of_modules
from smnet.models.fast import Swap, report
from smnet.models.registry import new_model
from smnet.system import describe_machine

CLASSES = 174
"""Classes of the profiled models, as in Something-Something."""


@dataclass(frozen=True)
class Part:
    """The parameters and the multiply-adds per clip of a stage or a temporal module of a model."""

    name: str
    parameters: int
    macs: int


@dataclass(frozen=True)
class Profile:
    """The cost of one model.

    Attributes:
        model: its name and options.
        parameters: number of learned values.
        macs: multiply-adds per clip.
        saved: bytes per clip that a forward pass keeps for the backward pass, without the weights.
        forward, step: median seconds of a forward pass and of a training step, per batch.
        forward_ratio, step_ratio: the same in units of the reference model.
        stages: the whole model, in the order of its layers.
        temporal: the temporal modules, which are also part of the stages.
        swaps: which modules were made faster, and which not for what reason.
    """

    model: str
    parameters: int
    macs: int
    saved: int
    forward: float
    step: float
    forward_ratio: Ratio
    step_ratio: Ratio
    stages: list[Part] = field(default_factory=list)
    temporal: list[Part] = field(default_factory=list)
    swaps: list[Swap] = field(default_factory=list)

    def share(self, quantity: str) -> float:
        """The share of the temporal modules in ``"parameters"`` or ``"macs"``."""
        return sum(getattr(part, quantity) for part in self.temporal) / getattr(self, quantity)


@dataclass(frozen=True)
class ProfileTable:
    """Profiles that were measured in turns on one machine."""

    profiles: list[Profile]
    reference: Profile
    segments: int
    size: int
    batch: int
    device: str
    clock: str
    warning: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: seconds, bytes, and ratios to the reference with quartiles."""
        return {
            "machine": describe_machine(),
            "device": self.device,
            "segments": self.segments,
            "size": self.size,
            "batch": self.batch,
            "clock": self.clock,
            "warning": self.warning,
            "reference": self.reference.model,
            "models": [
                {
                    "model": p.model,
                    "parameters": p.parameters,
                    "gmacs": p.macs / 1e9,
                    "saved_bytes": p.saved,
                    "forward_seconds": p.forward,
                    "step_seconds": p.step,
                    "forward_ratio": p.forward_ratio.value,
                    "forward_quartiles": [p.forward_ratio.low, p.forward_ratio.high],
                    "step_ratio": p.step_ratio.value,
                    "step_quartiles": [p.step_ratio.low, p.step_ratio.high],
                    "temporal_parameters": p.share("parameters"),
                    "temporal_macs": p.share("macs"),
                    "stages": [vars(part) for part in p.stages],
                    "temporal": [vars(part) for part in p.temporal],
                    "swaps": [vars(swap) for swap in p.swaps],
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
) -> ProfileTable:
    """Measure models side by side.

    Times are in units of TSN on the trunk of the first model. If TSN is not among the models, it is
    measured in addition. If that trunk has no TSN, the first model is the reference.

    Args:
        names: models, each with its own options after colons
            (``smnet_resnet50:place=after_conv1``).
        segments, size, batch: T, side of the crops in pixels, clips per timed batch.
        options: of every model.
        rounds: timed rounds, after one that warms up.

    Raises:
        UserError: an unknown model or option, an input that a model cannot take, or out of memory.
    """
    place = choose_device(device)
    shared = dict(options or {})
    rows = [row for name in names for row in read_models(name)]
    by_label = {candidate.label: candidate for candidate in rows}
    if len(by_label) < len(rows):
        raise UserError(f"a model is given twice: {', '.join(names)}")
    reference = _reference(rows)
    by_label.setdefault(reference.label, reference)
    reference_number = list(by_label).index(reference.label)
    try:
        models = [
            _build(
                candidate,
                segments,
                shared if candidate in rows else {k: v for k, v in shared.items() if k == "width"},
            )
            for candidate in by_label.values()
        ]
        parts = [parts_of(model, size) for model in models]
        saved = [saved_for_backward(model, size, place) for model in models]
        timings = time_models(models, size, batch, place, rounds)
    except torch.OutOfMemoryError:
        raise UserError("out of memory; use a smaller --batch or --size") from None
    except (ValueError, RuntimeError) as error:
        raise UserError(str(error).strip().splitlines()[0]) from None
    profiles = [
        Profile(
            label,
            parameter_count(models[k]),
            sum(part.macs for part in parts[k][0]),
            saved[k],
            timings.median(2 * k),
            timings.median(2 * k + 1),
            timings.ratio(2 * k, 2 * reference_number),
            timings.ratio(2 * k + 1, 2 * reference_number + 1),
            *parts[k],
            report(models[k]),
        )
        for k, label in enumerate(by_label)
    ]
    return ProfileTable(
        profiles[: len(rows)],
        profiles[reference_number],
        segments,
        size,
        batch,
        place.type,
        timings.clock,
        timings.warning,
    )


def _reference(rows: list[Candidate]) -> Candidate:
    """The model in whose times the others are given."""
    first = rows[0]
    name = f"tsn_{first.model.partition('_')[2]}"
    if not list_models(name):
        return first
    width = {k: v for k, v in first.options.items() if k == "width"}
    tsn = Candidate(":".join([name, *(f"{k}={v}" for k, v in width.items())]), name, width)
    return next((candidate for candidate in rows if candidate.model == name), tsn)


def _build(candidate: Candidate, segments: int, shared: dict[str, Any]) -> VideoModel:
    try:
        model = new_model(candidate.model, CLASSES, segments, {**shared, **candidate.options})
    except ValueError as error:
        raise candidate.refused(error) from None
    return accelerate(model, "training")


def parts_of(model: VideoModel, size: int) -> tuple[list[Part], list[Part]]:
    """The cost of each stage and of each temporal module of a model.

    The stages add up to the model. Multiply-adds are counted as in
    :func:`smnet.models.multiply_adds` and belong to the innermost module that computes them.
    """
    macs = multiply_adds_of_modules(model, size=size)
    stages: dict[str, Counter[str]] = {}
    temporal: dict[str, Counter[str]] = {}

    def add(name: str, quantity: str, count: int) -> None:
        if count or quantity == "parameters":
            stages.setdefault(_stage(name), Counter())[quantity] += count
        if inside := re.match(r"(?:.*?\.)?temporal(?=\.|$)", name):
            temporal.setdefault(inside[0], Counter())[quantity] += count

    for name, parameter in model.named_parameters():
        add(name.rpartition(".")[0], "parameters", parameter.numel())
    for name, module in model.named_modules():
        if name.endswith("temporal"):  # modules without parameters and multiply-adds too
            add(name, "parameters", 0)
        add(name, "macs", macs[name] if module is not model else 0)
    add("", "macs", macs[""])

    def listed(counts: dict[str, Counter[str]]) -> list[Part]:
        return [Part(name, c["parameters"], c["macs"]) for name, c in counts.items()]

    order = list(dict.fromkeys(_stage(name) for name, _ in model.named_modules()))
    ranked = sorted(listed(stages), key=lambda part: (part.name == "head", order.index(part.name)))
    return ranked, listed(temporal)


def _stage(name: str) -> str:
    """The stage of a module: the stem, res2 to res5, the head, or the module's own name."""
    first, _, rest = name.partition(".")
    if first.startswith("layer") and first[5:].isdecimal():
        return f"res{int(first[5:]) + 1}"
    if first == "features":
        return f"features.{rest.partition('.')[0]}"
    stem = ("", "conv1", "bn1", "relu", "maxpool")
    return "stem" if first in stem else "head" if first in ("fc", "dropout") else first


def saved_for_backward(model: VideoModel, size: int, device: torch.device) -> int:
    """Bytes per clip that autograd keeps between forward and backward, the clip included and the
    weights and running statistics not; each storage counts once."""
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


def time_models(
    models: Sequence[VideoModel],
    size: int,
    batch: int,
    device: torch.device,
    rounds: int,
    networks: Sequence[nn.Module] | None = None,
) -> Timings:
    """Time a forward pass and a training step of each model, in turns.

    A step is forward, cross-entropy, backward and SGD with momentum, in float32. The models are
    moved to ``device`` with channels last; ``networks``, such as their compiled forms, are called
    in their place. Candidate 2k is the forward pass of model k, candidate 2k+1 its training step.
    """
    labels = torch.arange(batch, device=device) % CLASSES
    candidates: list[Callable[[], object]] = []
    for model, network in zip(models, networks or models, strict=True):
        to_channels_last(model.to(device))
        clips = _clips(model, batch, size, device)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9)
        candidates.append(partial(forward_pass, network, clips))
        candidates.append(partial(training_step, network, clips, labels, optimizer))
    return in_turns(
        candidates,
        rounds,
        clock=clock_for(torch.get_num_threads(), device.type),
        synchronise=torch.cuda.synchronize if device.type == "cuda" else lambda: None,
    )


def forward_pass(network: nn.Module, clips: Tensor) -> None:
    """One forward pass in evaluation mode."""
    network.eval()
    with torch.inference_mode():
        network(clips)


def training_step(
    network: nn.Module, clips: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer
) -> None:
    """Forward, cross-entropy, backward and the update."""
    network.train()
    optimizer.zero_grad(set_to_none=True)
    F.cross_entropy(network(clips), labels).backward()
    optimizer.step()


def _clips(model: VideoModel, batch: int, size: int, device: torch.device) -> Tensor:
    return torch.randn(batch, model.spec.frames_per_clip, 3, size, size, device=device)
