"""The names of tensors in published checkpoints, and the recognition of a file's layout.

A layout maps our names to the published ones, so a message about a missing tensor uses the
published name. All are ``state_dict`` names without the ``module.`` of data-parallel training.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from smnet.models.mobilenetv2 import GROUPS
from smnet.models.resnet import LAYERS

SHOWN = 4
"""Number of tensors that a message names."""


Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]
"""Patterns in our keys and their replacements, applied in turn."""


@dataclass(frozen=True)
class Layout:
    """One way of naming tensors.

    Attributes:
        name: as in ``--from``.
        family: the family of models here.
        evidence: what ``mark`` shows, for messages.
        mark: a pattern that keys of this layout match, and keys of no later layout.
        prefix: the prefix of all keys but the classifier's.
        heads: possible names of the classifier, the usual one first.
        rules: map our keys (not the classifier's) to the published keys without the prefix.
        shifted: further rules, for the blocks with a temporal module.
        sampling, dense: the rules (``smnet.data.sampling.rules``) of this layout's published
            results, on segments and on dense clips.
        unused: a pattern of tensors that published files have and their programs do not use.
    """

    name: str
    family: str
    evidence: str
    mark: str
    prefix: str
    heads: tuple[str, ...]
    rules: Rules
    shifted: Rules = ()
    sampling: str = "tsn"
    dense: str = "tsm-dense"
    unused: str = r"(?!)"

    def names(self, ours: Iterable[str], temporal: Collection[str], head: str) -> dict[str, str]:
        """Map our names to the published ones.

        ``temporal`` are the blocks with a temporal module, such as ``layer1.0``; ``head`` is the
        classifier's name in this file, one of ``heads``.
        """
        names = {}
        for key in ours:
            if key.startswith("fc."):
                names[key] = head + key.removeprefix("fc")
                continue
            name = key
            for pattern, new in (*self.rules, *(self.shifted if block_of(key) in temporal else ())):
                name = re.sub(pattern, new, name)
            names[key] = self.prefix + name
        return names


def block_of(key: str) -> str:
    """The block of a key: ``layer1.0`` for ``layer1.0.conv1.weight``, "" outside the blocks."""
    found = re.match(r"(?:layer\d|features)\.\d+(?=\.)", key)
    return found[0] if found else ""


# --- our names to theirs ---------------------------------------------------------------------

# The modules of an inverted residual in one flat sequence, with and without the expansion.
_STEPS = {"0.0": 0, "0.1": 1, "1.0": 3, "1.1": 4, "2": 6, "3": 7}
_STEPS_OF_FIRST = {"0.0": 0, "0.1": 1, "1": 3, "2": 4}
_MODULE = r"^(features\.(\d+)\.conv)\.(\d(?:\.\d)?)\."
# The group of each block features.1, features.2 ..., and its number in the group.
_BLOCKS = [(group, n) for group, row in enumerate(GROUPS, 1) for n in range(row.blocks)]


def _step(module: re.Match[str]) -> int:
    return (_STEPS_OF_FIRST if module[2] == "1" else _STEPS)[module[3]]


def _mmaction2_module(module: re.Match[str]) -> str:
    group, block = _BLOCKS[int(module[2]) - 1]
    number, part = divmod(_step(module), 3)  # convolution, normalisation, ReLU6 without tensors
    return f"layer{group}.{block}.conv.{number}.{('conv', 'bn')[part]}."


_TSN: Rules = ((_MODULE, lambda module: f"{module[1]}.{_step(module)}."),)
_TSM_SHIFTED: Rules = (
    (r"^(layer\d\.\d+\.conv1|features\.\d+\.conv\.0)\.weight$", r"\1.net.weight"),
)
_ACTION_PARTS = {
    "shift": "shift",
    "ste": "p1_conv1",
    "ce.squeeze": "p2_squeeze",
    "ce.temporal_conv": "p2_conv1",
    "ce.expand": "p2_expand",
    "me.squeeze": "p3_squeeze",
    "me.norm": "p3_bn1",
    "me.transform": "p3_conv1",
    "me.expand": "p3_expand",
}
_ACTION: Rules = (
    *_TSN,
    (r"^(layer.+)\.temporal\.", r"\1.conv1.temporal."),
    (r"^(features.+)\.temporal\.", r"\1.conv.0.temporal."),
    (r"\.temporal\.(.+)\.", lambda part: f".action_{_ACTION_PARTS[part[1]]}."),
)
_TEA_PARTS = {
    "squeeze": "conv1",
    "norm": "bn1",
    "transform": "conv2",
    "expand": "conv3",
    "expand_norm": "bn3",
}
_TEA: Rules = (
    (r"\.temporal\.me\.(\w+)\.", lambda part: f".me.{_TEA_PARTS[part[1]]}."),
    (r"\.temporal\.shifts\.(\d)\.", r".shifts.\1.conv."),
)
_TDN_PARTS = _TEA_PARTS | {
    "coarse": "conv3_smallscale2",
    "coarse_norm": "bn3_smallscale2",
    "fine": "conv3_smallscale4",
    "fine_norm": "bn3_smallscale4",
}
_TDN: Rules = (
    (r"^(layer\d)\.", r"\1_bak."),
    (r"^difference\.layer1\.", "resnext_layer1."),
    (r"^difference\.conv1\.", "conv1_5.0."),
    (r"^difference\.bn1\.", "conv1_5.1."),
    (r"\.temporal\.difference\.(\w+)\.", lambda part: f".mse.{_TDN_PARTS[part[1]]}."),
    (r"\.temporal\.shift\.", ".shift.conv."),
)
_TAM: Rules = ((r"^(layer\d\.\d+)\.(?!temporal)", r"\1.net."), (r"\.temporal\.", ".tam."))
# Convolution and normalisation are one module, convK, with conv and bn in it. Inverted residuals
# are in a layer for each group, and have conv.0, conv.1 and conv.2.
_MMACTION2: Rules = (
    (r"\bconv(\d)\.", r"conv\1.conv."),
    (r"\bbn(\d)\.", r"conv\1.bn."),
    (r"\bdownsample\.0\.", "downsample.conv."),
    (r"\bdownsample\.1\.", "downsample.bn."),
    (_MODULE, _mmaction2_module),
    (r"^features\.0\.", "conv1."),
    (rf"^features\.{len(_BLOCKS) + 1}\.", "conv2."),
    (r"^(conv[12])\.0\.", r"\1.conv."),
    (r"^(conv[12])\.1\.", r"\1.bn."),
)
_MMACTION2_SHIFTED: Rules = ((r"^(layer\d\.\d+\.(?:conv1\.conv|conv\.0))\.", r"\1.net."),)
_MMACTION2_TANET: Rules = (
    *_MMACTION2,
    (r"^(layer\d\.\d+)\.(?!temporal)", r"\1.block."),
    (r"\.temporal\.", ".tam."),
)


# --- the layouts -----------------------------------------------------------------------------


def _tsn_lineage(name: str, evidence: str, mark: str, rules: Rules, **more: Any) -> Layout:
    """A layout of TSN, TSM and their successors. Networks without dropout lack ``new_fc``."""
    heads = ("new_fc", "base_model.fc", "base_model.classifier")
    return Layout(
        name, name, evidence, rf"^base_model\.{mark}", "base_model.", heads, rules, **more
    )


def _mmaction2_lineage(
    name: str, family: str, evidence: str, mark: str, rules: Rules, **more: Any
) -> Layout:
    name, head = f"mmaction2-{name}", "cls_head.fc_cls"
    more["sampling"] = "mmaction2"
    return Layout(
        name, family, evidence, rf"^backbone\.{mark}", "backbone.", (head,), rules, **more
    )


_TORCHVISION = Layout(
    "torchvision",
    "tsn",
    "an image network",
    r"^(?:layer1\.0\.conv1\.weight|features\.0\.0\.weight)$",
    "",
    ("fc", "classifier.1"),
    (),
    sampling="uniform",
    dense="uniform",
)
_IN_TAM = ("the two branches of TAM", r".*\.tam\.[GL]\.")
_WRAPPED = "a convolution wrapped by a shift"

# More specific marks come first.
_ORDERED = (
    _tsn_lineage(
        "tdn",
        "a stem of differences",
        r"conv1_5\.",
        _TDN,
        sampling="tdn",
        dense="tdn",
        unused=r"^base_model\.conv1_temp\.",
    ),
    _tsn_lineage("tam", *_IN_TAM, _TAM, sampling="tam-uniform", dense="tam-dense"),
    _tsn_lineage(
        "action", "the excitations of ACTION", r".*\.action_", _ACTION, shifted=_TSM_SHIFTED
    ),
    _tsn_lineage("tea", "the temporal convolutions of TEA", r".*\.shifts\.\d\.conv\.", _TEA),
    _tsn_lineage("tsm", _WRAPPED, r".*\.net\.weight$", _TSN, shifted=_TSM_SHIFTED),
    _tsn_lineage("tsn", "TSM's names without a wrapped convolution", "", _TSN),
    _mmaction2_lineage("tanet", "tam", *_IN_TAM, _MMACTION2_TANET),
    _mmaction2_lineage(
        "tsm",
        "tsm",
        _WRAPPED,
        r".*(?:\.conv\.net|\.conv\.0\.net\.conv)\.weight$",
        _MMACTION2,
        shifted=_MMACTION2_SHIFTED,
    ),
    _mmaction2_lineage(
        "tsn",
        "tsn",
        "MMAction2's names without a wrapped convolution",
        r"conv1\.conv\.",
        _MMACTION2,
    ),
    _TORCHVISION,
)

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in _ORDERED}
# timm names the tensors of its plain ResNets as torchvision does.
LAYOUTS["timm"] = replace(_TORCHVISION, name="timm")

_REFUSED = (
    (r"\.nl\.|\.non_local", "a non-local variant; non-local blocks are not supported"),
    (r"\binception_|conv1_7x7_s2", "a BNInception trunk, which is not supported"),
)


def recognise(keys: Collection[str]) -> tuple[Layout, str] | None:
    """The layout of a file, and a key that shows it; None for an unknown layout.

    Raises:
        ValueError: a known kind of network that is not supported.
    """
    for pattern, what in _REFUSED:
        if found := _first(pattern, keys):
            raise ValueError(f"{what} (see {found})")
    for layout in _ORDERED:
        if found := _first(layout.mark, keys):
            whole = layout.name == "tsn" and _first(r"\.net\.conv1\.", keys)
            if whole:
                raise ValueError(
                    "a shift before whole blocks; only the shift in the residual branch (blockres)"
                    f" is supported (see {whole})"
                )
            return layout, found
    return None


def modern(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Map each key to its present name, which differs for old TAM files only.

    These call the branches ``self_conv.conv_f`` and ``self_conv.conv_g``. The first weight tells
    them apart: a linear layer's (2T, T) in the global branch, (C/4, C, 3) in the local one.
    """
    names = {key: key for key in state}
    for key, tensor in state.items():
        found = re.fullmatch(r"(.+)\.self_conv\.(conv_\w)\.0\.weight", key)
        if found:
            branch = "G" if tensor.dim() == 2 else "L"
            old = f"{found[1]}.self_conv.{found[2]}."
            new = f"{found[1]}.tam.{branch}."
            names |= {k: new + k.removeprefix(old) for k in state if k.startswith(old)}
    return names


def by_input(layout: Layout, shapes: Mapping[str, tuple[int, ...]]) -> Layout:
    """The layout for the first convolution: over frames, TSN's RGB differences, or space and time.

    MMAction2 names the tensors of its 3D networks as those of its TSN.

    Raises:
        ValueError: any other input.
    """
    shape = shapes[_stem(layout, shapes)]
    if len(shape) == 5 and layout.name == "mmaction2-tsn":
        family = "slow" if shape[2] == 1 else "i3d"
        name = f"mmaction2-{family}"
        return replace(layout, name=name, family=family, sampling="dense", dense="dense")
    if len(shape) != 4:
        raise ValueError(f"its first convolution has a weight of shape {shape}: not a 2D network")
    channels = shape[1]
    if channels == 15 and layout.name == "tsn":  # 5 differences of 3 colours
        return replace(layout, family="rgbdiff")
    if channels != 3:
        raise ValueError(
            f"its first convolution takes {channels} channels, such as optical flow; networks for"
            " RGB frames are supported and, in the layout tsn, for RGB differences (15 channels)"
        )
    return layout


def trunk_of(layout: Layout, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, int]:
    """The trunk's name and the channels of its stem; ``ValueError`` for an unknown trunk."""
    name = _stem(layout, shapes)
    width = shapes[name][0]
    if "features." in name or _first(re.escape(layout.prefix) + r"layer7\.", shapes):
        return "mobilenetv2", width
    if _first(re.escape(layout.prefix) + r"layer1\.0\.convs\.", shapes):
        return "res2net50", width
    pattern = re.compile(re.escape(layout.prefix) + r"layer(\d)(?:_bak)?\.(\d+)\.(.+)")
    blocks = [found.groups() for key in shapes if (found := pattern.match(key))]
    depths = tuple(
        len({block for stage, block, _ in blocks if stage == wanted}) for wanted in "1234"
    )
    bottleneck = any(re.search(r"\bconv3\.(?:conv\.)?weight$", rest) for *_, rest in blocks)
    for depth, known in LAYERS.items():
        if known == depths and bottleneck == (depth >= 50):
            return f"resnet{depth}", width
    kind = "bottleneck" if bottleneck else "basic"
    raise ValueError(f"its stages have {depths} {kind} blocks; the known trunks are {LAYERS}")


def _stem(layout: Layout, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The name of the first convolution's weight."""
    stems = ("conv1.weight", "conv1.conv.weight", "features.0.0.weight")
    name = next((n for stem in stems if (n := layout.prefix + stem) in shapes), None)
    if name is None:
        raise ValueError(
            f"it lacks the first convolution, {layout.prefix}{stems[0]}; there are {some(shapes)}"
        )
    return name


def some(keys: Collection[str]) -> str:
    """The first few names of a file's tensors, for messages."""
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(list(keys)[:SHOWN]) + more


def _first(pattern: str, keys: Collection[str]) -> str:
    return next((key for key in keys if re.search(pattern, key)), "")
