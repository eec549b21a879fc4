"""Every model by name: ``family_trunk``, for instance ``smnet_resnet50``."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

from torch import Tensor

from . import differences
from .action import action
from .base import ModelSpec, VideoModel
from .imagenet import load_weights
from .mobilenetv2 import MobileNetV2
from .resnet import ResNet
from .resnet3d import i3d, slow
from .rgbdiff import rgbdiff
from .smnet import smnet
from .smnet_options import SMNetOptions
from .stm import stm
from .tam import tam
from .tdn import tdn
from .tea import tea
from .teinet import teinet
from .trunks import RESNETS, TRUNKS, build_trunk
from .tsm import tsm
from .tsn import tsn


@dataclass(frozen=True)
class Family:
    """A way to build models.

    Attributes:
        build: the function ``(spec, trunk, **options)``.
        about: what it does and where it is from, for readers of this file.
        trunks: the trunks that it takes.
        spec: what it fixes in the :class:`ModelSpec` (frames a segment, sampling).
        replaces_conv2: whether its part can stand instead of a bottleneck's 3x3 convolution.
    """

    build: Callable[..., VideoModel]
    about: str
    trunks: tuple[str, ...] = TRUNKS
    spec: Mapping[str, Any] = field(default_factory=dict)
    replaces_conv2: bool = False


FAMILIES: dict[str, Family] = {
    "smnet": Family(
        smnet, "spatio-temporal and motion excitation (Entropy 2022)", replaces_conv2=True
    ),
    "tsn": Family(tsn, "no temporal part: the image network alone (ECCV 2016)"),
    "rgbdiff": Family(
        rgbdiff,
        "TSN on differences of RGB frames, the second stream (ECCV 2016)",
        tuple(RESNETS),
        differences.INPUTS["rgbdiff"],
    ),
    "tsm": Family(tsm, "a part of the channels shifted along time (ICCV 2019)"),
    "stm": Family(stm, "temporal convolution beside motion features (ICCV 2019)", tuple(RESNETS)),
    "teinet": Family(teinet, "motion-gated channels, mixed over time (AAAI 2020)"),
    "tea": Family(tea, "motion excitation on Res2Net-50 (CVPR 2020)", ("res2net50",)),
    "action": Family(action, "spatio-temporal, channel and motion excitation (CVPR 2021)"),
    "tam": Family(tam, "a temporal kernel of each video's own (ICCV 2021)"),
    "tdn": Family(
        tdn,
        "temporal differences (CVPR 2021)",
        tuple(RESNETS),
        differences.INPUTS["rgb+rgbdiff"],
    ),
    "i3d": Family(i3d, "3D: an inflated ResNet (CVPR 2018)", tuple(RESNETS), {"sampling": "dense"}),
    "slow": Family(
        slow, "3D: the Slow pathway of SlowFast (ICCV 2019)", tuple(RESNETS), {"sampling": "dense"}
    ),
}

for _key in FAMILIES:
    if not re.fullmatch("[a-z][a-z0-9]*", _key):
        raise ValueError(
            f"FAMILIES: {_key!r} cannot begin a model's name, family_trunk: write it in small"
            " letters and digits, without an underscore"
        )


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
        name: see :func:`list_models`.
        num_classes: K, length of the score vector.
        num_segments: T, segments a clip is sampled at; recorded in the specification.
        weights: start of the trunk. None or ``"none"``: random. ``"imagenet"``: the published
            ImageNet weights, from the cache or the network. A path, or a mapping of tensors: those,
            by torchvision's names. The classifier and the temporal parts keep their own start.
        options: keywords of the family and of its trunk, such as ``place="after_conv1"``.

    Raises:
        ValueError: unknown name or option, impossible numbers, weights that do not fit.
    """
    model = new_model(name, num_classes, num_segments, options)
    if weights is not None and weights != "none":
        load_weights(model, weights)
    return model


def new_model(
    name: str, num_classes: int, num_segments: int, options: Mapping[str, Any]
) -> VideoModel:
    """:func:`create_model` without weights, for options of any name, as recipes have them."""
    spec = ModelSpec(name, num_classes, num_segments, dict(options), **input_of(name, options))
    return build_model(spec)


def build_model(spec: ModelSpec) -> VideoModel:
    """The model that ``spec`` describes, with its starting weights."""
    family = family_of(spec.name)
    trunk = spec.name.partition("_")[2]
    if spec.options.get("place") == "instead_of_conv2" and not family.replaces_conv2:
        raise ValueError(
            f"{spec.name}: place must be before_conv1 or after_conv1, not 'instead_of_conv2', which"
            " would leave its blocks without a 3x3 convolution"
        )
    _check_kinds(spec.options, family)
    try:
        return family.build(spec, trunk, **spec.options)
    except TypeError as error:
        unknown = _unknown_option(error)
        if unknown is None or unknown not in spec.options:  # the latter: of a call further in
            if not spec.options:
                raise
            given = ", ".join(f"{key}={value!r}" for key, value in spec.options.items())
            raise ValueError(f"{spec.name} cannot be built with {given}: {error}") from error
        raise ValueError(f"{spec.name} has no option {unknown!r}{_near(unknown, family)}") from None


def input_of(name: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a model of these options fixes in its specification; ``ValueError`` as
    :func:`family_of`."""
    fixed = family_of(name).spec
    return fixed or differences.INPUTS.get(str(options.get("modality")), {})


def family_of(name: str) -> Family:
    """The family of a model's name; ``ValueError`` with the nearest names if there is none."""
    family, _, trunk = name.partition("_")
    if family in FAMILIES and trunk in FAMILIES[family].trunks:
        return FAMILIES[family]
    if family in FAMILIES and trunk in TRUNKS:
        stands = ", ".join(FAMILIES[family].trunks)
        raise ValueError(f"no model is called {name!r}; {family} stands on {stands}")
    near = (
        difflib.get_close_matches(name, list_models(f"{family}_*"), n=3, cutoff=0.0)
        if family in FAMILIES
        else difflib.get_close_matches(name, list_models(), n=3, cutoff=0.5)
    )
    hint = f"did you mean {' or '.join(near)}?" if near else "`smnet models` lists them"
    raise ValueError(f"no model is called {name!r}; {hint}")


def _unknown_option(error: TypeError) -> str | None:
    """The option that the caller may not set: unknown to the family, or set by the family."""
    refusal = r"(?:unexpected keyword argument|multiple values for (?:keyword )?argument) '(\w+)'"
    found = re.search(refusal, str(error))
    return found[1] if found else None


_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "bool": ((bool,), "true or false"),
}
"""What options that are annotated so may be, and the words for it."""


def _check_kinds(options: Mapping[str, Any], family: Family) -> None:
    """``ValueError`` for a word where a number is wanted: further in, it would be PyTorch's."""
    of_trunks: tuple[Callable[..., Any], ...] = (ResNet.__init__, MobileNetV2.__init__)
    for target in (*_takers(family), *of_trunks):
        for name, parameter in inspect.signature(target).parameters.items():
            kind = str(parameter.annotation)
            if name not in options or (options[name] is None and kind.endswith("| None")):
                continue
            types, said = _KINDS.get(kind.removesuffix(" | None"), (None, ""))
            if types is not None and type(options[name]) not in types:
                raise ValueError(f"{name} must be {said}, not {options[name]!r}")


def _near(option: str, family: Family) -> str:
    known = set[str]().union(*map(_options_of, _takers(family)))
    of_trunks = _options_of(ResNet.__init__) | _options_of(build_trunk)
    takes = inspect.signature(family.build).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes):
        known |= of_trunks
    elif option in of_trunks:
        return f"; {family.build.__name__}() takes no **options for its trunk"
    near = difflib.get_close_matches(option, sorted(known - {option}), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _takers(family: Family) -> tuple[Callable[..., Any], ...]:
    """What names the options of a family, those of its trunk aside."""
    return (smnet, SMNetOptions) if family.build is smnet else (family.build,)


def _options_of(target: Callable[..., Any]) -> set[str]:
    said_otherwise = {"self", "spec", "trunk", "depth", "block", "temporal", "options"}
    return set(inspect.signature(target).parameters) - said_otherwise
