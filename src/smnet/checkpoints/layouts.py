"""The names of tensors in published checkpoints, and the recognition of a file's layout.

A layout is a function from our names to the published ones, so a message about a missing tensor
uses the published name. All are ``state_dict`` names without the ``module.`` of data-parallel
training.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from smnet.models.mobilenetv2 import GROUPS
from smnet.models.resnet import LAYERS

SHOWN = 4
"""Number of tensors that a message names."""


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
        rename: maps our key (not the classifier's), and whether its block has a temporal module, to
            the published key without the prefix.
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
    rename: Callable[[str, bool], str]
    sampling: str
    dense: str
    unused: str = r"(?!)"

    def names(self, ours: Iterable[str], temporal: Collection[str], head: str) -> dict[str, str]:
        """Map our names to the published ones.

        Args:
            ours: keys of the model's ``state_dict``.
            temporal: the blocks with a temporal module, such as ``layer1.0``.
            head: the classifier's name in this file, one of ``heads``.
        """
        found = {}
        for key in ours:
            if key.startswith("fc."):
                found[key] = head + key.removeprefix("fc")
            else:
                found[key] = self.prefix + self.rename(key, block_of(key) in temporal)
        return found


def block_of(key: str) -> str:
    """The block of a key: ``layer1.0`` for ``layer1.0.conv1.weight``, "" outside the blocks."""
    found = re.match(r"(?:layer\d|features)\.\d+(?=\.)", key)
    return found[0] if found else ""


# --- our names to theirs ---------------------------------------------------------------------

# The modules of an inverted residual in one flat sequence, with and without the expansion.
_FLAT = {"0.0": "0", "0.1": "1", "1.0": "3", "1.1": "4", "2": "6", "3": "7"}
_FLAT_FIRST = {"0.0": "0", "0.1": "1", "1": "3", "2": "4"}


def _flat(key: str) -> str:
    found = re.match(r"(features\.(\d+)\.conv\.)(\d(?:\.\d)?)(\..+)", key)
    if not found:
        return key
    step = (_FLAT_FIRST if found[2] == "1" else _FLAT).get(found[3], found[3])
    return found[1] + step + found[4]


def _plain(key: str, temporal: bool) -> str:
    return key


def _tsn(key: str, temporal: bool) -> str:
    return _flat(key)


def _tsm(key: str, temporal: bool) -> str:
    key = _flat(key)
    if temporal:  # the shift wraps the block's first convolution
        key = re.sub(
            r"^(layer\d\.\d+\.conv1|features\.\d+\.conv\.0)\.weight$", r"\1.net.weight", key
        )
    return key


_ACTION = {
    "shift": "action_shift",
    "ste": "action_p1_conv1",
    "ce.squeeze": "action_p2_squeeze",
    "ce.temporal_conv": "action_p2_conv1",
    "ce.expand": "action_p2_expand",
    "me.squeeze": "action_p3_squeeze",
    "me.norm": "action_p3_bn1",
    "me.transform": "action_p3_conv1",
    "me.expand": "action_p3_expand",
}


def _action(key: str, temporal: bool) -> str:
    block, infix, part = key.partition(".temporal.")
    if not infix:
        return _tsm(key, temporal)
    module, _, tensor = part.rpartition(".")
    first = "conv1" if block.startswith("layer") else "conv.0"
    return f"{block}.{first}.{_ACTION[module]}.{tensor}"


_TEA = {"squeeze": "conv1", "norm": "bn1", "transform": "conv2", "expand": "conv3"}
_TEA |= {"expand_norm": "bn3"}


def _tea(key: str, temporal: bool) -> str:
    key = re.sub(r"\.temporal\.me\.(\w+)\.", lambda m: f".me.{_TEA[m[1]]}.", key)
    return re.sub(r"\.temporal\.shifts\.(\d)\.", r".shifts.\1.conv.", key)


_TDN = _TEA | {
    "coarse": "conv3_smallscale2",
    "coarse_norm": "bn3_smallscale2",
    "fine": "conv3_smallscale4",
    "fine_norm": "bn3_smallscale4",
}


def _tdn(key: str, temporal: bool) -> str:
    if key.startswith("difference."):
        key = key.removeprefix("difference.")
        key = re.sub(r"^layer1\.", "resnext_layer1.", key)
        return re.sub(r"^(?:conv|bn)1\.", lambda m: f"conv1_5.{int(m[0] == 'bn1.')}.", key)
    key = re.sub(r"^(layer\d)\.", r"\1_bak.", key)
    key = re.sub(r"\.temporal\.difference\.(\w+)\.", lambda m: f".mse.{_TDN[m[1]]}.", key)
    return key.replace(".temporal.shift.", ".shift.conv.")


def _tam(key: str, temporal: bool) -> str:
    if ".temporal." in key:
        return key.replace(".temporal.", ".tam.")
    return re.sub(r"^(layer\d\.\d+)\.", r"\1.net.", key)


def _mmaction2(key: str, temporal: bool) -> str:
    """Convolution and normalisation are one module, ``convK``, with ``conv`` and ``bn`` in it."""
    if key.startswith("features."):
        return _mmaction2_mobile(key, wrapped=False)
    key = re.sub(r"\bconv(\d)\.", r"conv\1.conv.", key)
    key = re.sub(r"\bbn(\d)\.", r"conv\1.bn.", key)
    return key.replace("downsample.0.", "downsample.conv.").replace(
        "downsample.1.", "downsample.bn."
    )


def _mmaction2_mobile(key: str, wrapped: bool) -> str:
    """MobileNetV2: a layer for each group of blocks, and in a block conv.0, conv.1, conv.2."""
    number, _, rest = key.removeprefix("features.").partition(".")
    position = int(number)
    first = [1 + sum(g.blocks for g in GROUPS[:k]) for k in range(len(GROUPS) + 1)]
    if position in (0, first[-1]):
        kind = "conv" if rest.startswith("0.") else "bn"
        return f"conv{1 if position == 0 else 2}.{kind}{rest[1:]}"
    layer = sum(position >= start for start in first)
    step, _, tensor = _flat(key).partition(".conv.")[2].partition(".")
    module, part = divmod(int(step), 3)  # convolution, normalisation, and ReLU6 without tensors
    shift = ".net" if wrapped and module == 0 else ""
    block = position - first[layer - 1]
    return f"layer{layer}.{block}.conv.{module}{shift}.{('conv', 'bn')[part]}.{tensor}"


def _mmaction2_tsm(key: str, temporal: bool) -> str:
    if key.startswith("features."):
        return _mmaction2_mobile(key, temporal)
    key = _mmaction2(key, temporal)
    if temporal:
        key = re.sub(r"^(layer\d\.\d+\.conv1\.conv)\.", r"\1.net.", key)
    return key


def _mmaction2_tanet(key: str, temporal: bool) -> str:
    if ".temporal." in key:
        return key.replace(".temporal.", ".tam.")
    return re.sub(r"^(layer\d\.\d+)\.", r"\1.block.", _mmaction2(key, temporal))


# --- the layouts -----------------------------------------------------------------------------


def _tsn_lineage(
    name: str,
    evidence: str,
    mark: str,
    rename: Callable[[str, bool], str],
    sampling: tuple[str, str] = ("tsn", "tsm-dense"),
) -> Layout:
    """A layout of TSN, TSM and their successors. Networks without dropout lack ``new_fc``."""
    heads = ("new_fc", "base_model.fc", "base_model.classifier")
    return Layout(
        name, name, evidence, rf"^base_model\.{mark}", "base_model.", heads, rename, *sampling
    )


def _mmaction2_lineage(
    name: str, family: str, evidence: str, mark: str, rename: Callable[[str, bool], str]
) -> Layout:
    return Layout(
        f"mmaction2-{name}",
        family,
        evidence,
        rf"^backbone\.{mark}",
        "backbone.",
        ("cls_head.fc_cls",),
        rename,
        "mmaction2",
        "tsm-dense",
    )


_TORCHVISION = Layout(
    "torchvision",
    "tsn",
    "an image network",
    r"^(?:layer1\.0\.conv1\.weight|features\.0\.0\.weight)$",
    "",
    ("fc", "classifier.1"),
    _plain,
    "uniform",
    "uniform",
)

# More specific marks come first.
_ORDERED = (
    replace(
        _tsn_lineage("tdn", "a stem of differences", r"conv1_5\.", _tdn, ("tdn", "tdn")),
        unused=r"^base_model\.conv1_temp\.",
    ),
    _tsn_lineage(
        "tam", "the two branches of TAM", r".*\.tam\.[GL]\.", _tam, ("tam-uniform", "tam-dense")
    ),
    _tsn_lineage("action", "the excitations of ACTION", r".*\.action_", _action),
    _tsn_lineage("tea", "the temporal convolutions of TEA", r".*\.shifts\.\d\.conv\.", _tea),
    _tsn_lineage("tsm", "a convolution wrapped by a shift", r".*\.net\.weight$", _tsm),
    _tsn_lineage("tsn", "TSM's names without a wrapped convolution", "", _tsn),
    _mmaction2_lineage(
        "tanet", "tam", "the two branches of TAM", r".*\.tam\.[GL]\.", _mmaction2_tanet
    ),
    _mmaction2_lineage(
        "tsm",
        "tsm",
        "a convolution wrapped by a shift",
        r".*(?:\.conv\.net|\.conv\.0\.net\.conv)\.weight$",
        _mmaction2_tsm,
    ),
    _mmaction2_lineage(
        "tsn",
        "tsn",
        "MMAction2's names without a wrapped convolution",
        r"conv1\.conv\.",
        _mmaction2,
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
