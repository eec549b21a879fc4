"""Every model by name: ``family_trunk``, for instance ``smnet_resnet50``."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

from torch import Tensor

from .action import ActionOptions, action
from .base import ModelSpec, VideoModel
from .differences import INPUTS
from .imagenet import load_weights
from .options import Options, TrunkOptions, read_options
from .resnet3d import I3DOptions, i3d, slow
from .rgbdiff import RGBDiffOptions, rgbdiff
from .smnet import smnet
from .smnet_options import SMNetOptions
from .stm import STMOptions, stm
from .tam import TAMOptions, tam
from .tdn import TDNOptions, tdn
from .tea import TEAOptions, tea
from .teinet import TEINetOptions, teinet
from .trunks import RESNETS, TRUNKS, Trunk
from .tsm import TSMOptions, tsm
from .tsn import TSNOptions, tsn


@dataclass(frozen=True)
class Family:
    """A way to build models.

    Attributes:
        build: the function ``(spec, trunk, options) -> VideoModel``.
        options: the declaration of its options. One that extends ``TrunkOptions`` holds all
            options of the model; otherwise those of the trunk are added.
        about: what it does, in a few words.
        paper: venue and year.
        cost: parameters and multiply-adds in units of TSN on the same trunk: ResNet-50 where it is
            supported, 8 segments, 400 classes. None is not measured.
        trunks: the trunks that it supports.
        input: the fields of ``ModelSpec`` that it fixes (frames per segment, sampling).
    """

    build: Callable[[ModelSpec, Trunk, Any], VideoModel]
    options: type[Options]
    about: str
    paper: str = ""
    cost: tuple[float, float] | None = None
    trunks: tuple[str, ...] = tuple(TRUNKS)
    input: Mapping[str, Any] = field(default_factory=dict)


SIX, FIVE = INPUTS["rgbdiff"], INPUTS["rgb+rgbdiff"]
DENSE = {"sampling": "dense"}

FAMILIES: dict[str, Family] = {
    "smnet": Family(
        smnet, SMNetOptions, "spatio-temporal and motion excitation", "Entropy 2022", (1.08, 1.05)
    ),
    "tsn": Family(tsn, TSNOptions, "image network on sparse segments", "ECCV 2016", (1.0, 1.0)),
    "rgbdiff": Family(
        rgbdiff, RGBDiffOptions, "TSN on frame differences", "ECCV 2016", (1.0, 1.12), RESNETS, SIX
    ),
    "tsm": Family(tsm, TSMOptions, "channels shifted along time", "ICCV 2019", (1.0, 1.0)),
    "stm": Family(
        stm, STMOptions, "temporal convolution and motion", "ICCV 2019", (1.01, 1.01), RESNETS
    ),
    "teinet": Family(
        teinet, TEINetOptions, "motion gates, then temporal convolution", "AAAI 2020", (1.25, 1.01)
    ),
    "tea": Family(
        tea, TEAOptions, "motion excitation in Res2Net", "CVPR 2020", (1.02, 1.01), ("res2net50",)
    ),
    "action": Family(
        action,
        ActionOptions,
        "spatio-temporal, channel and motion gates",
        "CVPR 2021",
        (1.17, 1.05),
    ),
    "tam": Family(tam, TAMOptions, "a temporal kernel per video", "ICCV 2021", (1.05, 1.0)),
    "tdn": Family(
        tdn,
        TDNOptions,
        "differences in and between segments",
        "CVPR 2021",
        (1.02, 1.09),
        RESNETS,
        FIVE,
    ),
    "i3d": Family(
        i3d, I3DOptions, "3D ResNet, inflated from 2D", "CVPR 2018", (1.15, 0.87), RESNETS, DENSE
    ),
    "slow": Family(
        slow,
        TrunkOptions,
        "3D, Slow pathway of SlowFast",
        "ICCV 2019",
        (1.33, 1.28),
        RESNETS,
        DENSE,
    ),
}


def list_models(pattern: str = "*") -> list[str]:
    """Names of all models that match a shell pattern, sorted."""
    names = (f"{family}_{trunk}" for family, f in FAMILIES.items() for trunk in f.trunks)
    return sorted(name for name in names if fnmatch(name, pattern))


def create_model(
    name: str,
    num_classes: int,
    num_segments: int = 8,
    weights: str | Mapping[str, Tensor] | None = None,
    **options: Any,
) -> VideoModel:
    """Build a model by name.

    Args:
        name: see ``list_models``.
        num_classes: K, the length of the score vector.
        num_segments: T, the number of segments per clip; recorded in the specification.
        weights: start of the trunk. None or ``"none"``: random. ``"imagenet"``: the published
            ImageNet weights, from the cache or the network. A path or a mapping of tensors: those,
            by torchvision's names. The classifier and the temporal parts keep their own start.
        options: options of the family and its trunk, see ``option_types``.

    Raises:
        ValueError: an unknown name or option, an impossible value, or weights that do not fit.
    """
    model = new_model(name, num_classes, num_segments, options)
    if weights is not None and weights != "none":
        load_weights(model, weights)
    return model


def new_model(
    name: str, num_classes: int, num_segments: int, options: Mapping[str, Any]
) -> VideoModel:
    """``create_model`` without weights, with the options as a mapping."""
    spec = ModelSpec(name, num_classes, num_segments, dict(options), **input_of(name, options))
    return build_model(spec)


def build_model(spec: ModelSpec) -> VideoModel:
    """The model of a specification, with its initial weights.

    Raises:
        ValueError: an unknown name or option, or an impossible value.
    """
    family = family_of(spec.name)
    own, *rest = read_options(spec.name, option_types(spec.name), spec.options)
    trunk = Trunk(spec.name.partition("_")[2], rest[0] if rest else own)
    if spec.options.get("causal") and not spec.causal:
        raise ValueError("causal=true scores frame by frame; leave head at mean")
    return family.build(spec, trunk, own)


def option_types(name: str) -> list[type[Options]]:
    """The declarations of a model's options: of its family, and of its trunk."""
    family = family_of(name)
    if issubclass(family.options, TrunkOptions):
        return [family.options]
    return [family.options, TRUNKS[name.partition("_")[2]]]


def input_of(name: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of ``ModelSpec`` that a model with these options fixes."""
    return family_of(name).input or INPUTS.get(str(options.get("modality")), {})


def family_of(name: str) -> Family:
    """The family of a model; a ``ValueError`` with the nearest names for an unknown one."""
    key, _, trunk = name.partition("_")
    family = FAMILIES.get(key)
    if family is not None and trunk in family.trunks:
        return family
    if family is not None and trunk in TRUNKS:
        supported = ", ".join(family.trunks)
        raise ValueError(f"no model is called {name!r}; the trunks of {key} are {supported}")
    pattern, cutoff = (f"{key}_*", 0.0) if family is not None else ("*", 0.5)
    near = difflib.get_close_matches(name, list_models(pattern), n=3, cutoff=cutoff)
    hint = f"did you mean {' or '.join(near)}?" if near else "`smnet models` lists them"
    raise ValueError(f"no model is called {name!r}; {hint}")
