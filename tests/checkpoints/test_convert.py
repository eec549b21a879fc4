"""Published checkpoints become ours: the same scores, nothing left over, nothing run or guessed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner

from smnet.checkpoints.convert import Conversion, convert
from smnet.checkpoints.file import read_checkpoint, save_checkpoint
from smnet.checkpoints.layouts import LAYOUTS, block_of
from smnet.cli.main import app
from smnet.errors import UserError
from smnet.models import create_model
from smnet.training.start_weights import start_from
from tests import published
from tests.published import Net, State

torch.set_num_threads(1)

T = 3
LABELMAPS = Path(__file__).parents[3] / "shared/data/labelmaps"


def saved(path: Path, state: State, module: bool = False, **beside: object) -> Path:
    """As the training programs save: in a dict, behind data-parallel names if ``module``."""
    state = {("module." if module else "") + k: v for k, v in state.items()}
    torch.save({"epoch": 45, "arch": "resnet50", "state_dict": state, **beside}, path)
    return path


def clips(frames: int, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn((2, frames, 3, size, size), generator=generator, dtype=torch.float64)


def mm(plain: str, kind: str, block: str = "") -> str:
    """MMAction2's name of a convolution ("conv") or normalisation ("bn")."""
    head, _, last = plain.rpartition(".")
    if "downsample" in plain:
        path = head
    else:
        path = (head + "." if head else "") + "conv" + last[-1]
    stage, _, rest = path.partition(".")
    number, _, rest = rest.partition(".")
    if rest:
        path = f"{stage}.{number}.{block}{rest}"
    return f"backbone.{path}.{kind}"


def base(plain: str) -> str:
    return f"base_model.{plain}"


def net_of(state: State, conv: Callable[[str], str]) -> Callable[[str], str]:
    """``conv``, with ``.net`` where the file has it."""
    return lambda name: conv(name) + (".net" if conv(name) + ".net.weight" in state else "")


def run_tsm(s: State, x: Tensor, depth: int) -> Tensor:
    net, conv = Net(s, T), net_of(s, base)

    def before(x: Tensor, block: str) -> Tensor:
        return net.shift(x) if conv(f"{block}.conv1").endswith(".net") else x

    return net.plain(x, "new_fc", conv, base, before, depth=depth)


def run_rgbdiff(s: State, x: Tensor, depth: int) -> Tensor:
    frames = x.unflatten(1, (T, 6))
    differences = [frames[:, :, k + 1] - frames[:, :, k] for k in range(5)]
    return run_tsm(s, torch.cat(differences, 2), depth)


def run_action(s: State, x: Tensor, depth: int) -> Tensor:
    net = Net(s, T)

    def before(x: Tensor, block: str) -> Tensor:
        return net.action(x, f"base_model.{block}.conv1.action_")

    return net.plain(x, "new_fc", net_of(s, base), base, before, depth=depth)


def run_tam(s: State, x: Tensor, depth: int, old: bool = False) -> Tensor:
    net = Net(s, T)
    g, local = ("self_conv.conv_f", "self_conv.conv_g") if old else ("tam.G", "tam.L")

    def name(plain: str) -> str:
        words = plain.split(".")
        return base(".".join([*words[:2], "net", *words[2:]]) if len(words) > 1 else plain)

    def after(x: Tensor, block: str) -> Tensor:
        return net.tam(x, f"base_model.{block}.{g}", f"base_model.{block}.{local}")

    return net.plain(x, "new_fc", name, name, after=after, depth=depth)


def run_mmaction2(s: State, x: Tensor, depth: int, shift: bool, tanet: bool) -> Tensor:
    net, block_part = Net(s, T), "block." if tanet else ""
    conv = net_of(s, lambda n: mm(n, "conv", block_part))

    def before(x: Tensor, block: str) -> Tensor:
        return net.shift(x) if shift else x

    def after(x: Tensor, block: str) -> Tensor:
        at = f"backbone.{block}.tam."
        return net.tam(x, at + "G", at + "L") if tanet else x

    return net.plain(
        x, "cls_head.fc_cls", conv, lambda n: mm(n, "bn", block_part), before, after, depth
    )


# name: the state, what its program computes, frames a clip, layout, our model
Case = tuple[Callable[[], State], Callable[[State, Tensor], Tensor], int, str, str]
CASES: dict[str, Case] = {
    "tsm-18": (
        lambda: published.tsm(18, 16),
        lambda s, x: run_tsm(s, x, 18),
        T,
        "tsm",
        "tsm_resnet18",
    ),
    "tsm-50": (
        lambda: published.tsm(50, 16),
        lambda s, x: run_tsm(s, x, 50),
        T,
        "tsm",
        "tsm_resnet50",
    ),
    "tsm-101": (
        lambda: published.tsm(101, 8),
        lambda s, x: run_tsm(s, x, 101),
        T,
        "tsm",
        "tsm_resnet101",
    ),
    "tsm-mobilenetv2": (
        published.mobilenetv2,
        lambda s, x: Net(s, T).mobilenetv2(x),
        T,
        "tsm",
        "tsm_mobilenetv2",
    ),
    "tsn-34": (
        lambda: published.tsm(34, 8, shift=False),
        lambda s, x: run_tsm(s, x, 34),
        T,
        "tsn",
        "tsn_resnet34",
    ),
    "rgbdiff-18": (
        lambda: published.rgbdiff(18, 16),
        lambda s, x: run_rgbdiff(s, x, 18),
        6 * T,
        "tsn",
        "rgbdiff_resnet18",
    ),
    "action-18": (
        lambda: published.action(18, 32),
        lambda s, x: run_action(s, x, 18),
        T,
        "action",
        "action_resnet18",
    ),
    "action-50": (
        lambda: published.action(50, 8),
        lambda s, x: run_action(s, x, 50),
        T,
        "action",
        "action_resnet50",
    ),
    "tam-50": (
        lambda: published.tam(50, T, 8),
        lambda s, x: run_tam(s, x, 50),
        T,
        "tam",
        "tam_resnet50",
    ),
    "tam-old": (
        lambda: published.tam(18, T, 16, branches=("self_conv.conv_f", "self_conv.conv_g")),
        lambda s, x: run_tam(s, x, 18, old=True),
        T,
        "tam",
        "tam_resnet18",
    ),
    "tdn-50": (
        lambda: published.tdn(50, 32),
        lambda s, x: Net(s, T).tdn(x, 0.25),
        5 * T,
        "tdn",
        "tdn_resnet50",
    ),
    "tea": (
        lambda: published.tea(16),
        lambda s, x: Net(s, T).tea(x),
        T,
        "tea",
        "tea_res2net50",
    ),
    "mmaction2-tsm": (
        lambda: published.mmaction2(50, 16, shift=True),
        lambda s, x: run_mmaction2(s, x, 50, shift=True, tanet=False),
        T,
        "mmaction2-tsm",
        "tsm_resnet50",
    ),
    "mmaction2-tsn": (
        lambda: published.mmaction2(18, 16),
        lambda s, x: run_mmaction2(s, x, 18, shift=False, tanet=False),
        T,
        "mmaction2-tsn",
        "tsn_resnet18",
    ),
    "mmaction2-tsm-mobilenetv2": (
        published.mmaction2_mobilenetv2,
        lambda s, x: Net(published.mobilenetv2(), T).mobilenetv2(x),
        T,
        "mmaction2-tsm",
        "tsm_mobilenetv2",
    ),
    "mmaction2-tsn-mobilenetv2": (
        lambda: published.mmaction2_mobilenetv2(shift=False),
        lambda s, x: Net(published.mobilenetv2(shift=False), T).mobilenetv2(x),
        T,
        "mmaction2-tsn",
        "tsn_mobilenetv2",
    ),
    "mmaction2-tanet": (
        lambda: published.mmaction2(50, 8, tanet=T),
        lambda s, x: run_mmaction2(s, x, 50, shift=False, tanet=True),
        T,
        "mmaction2-tanet",
        "tam_resnet50",
    ),
    "mmaction2-slow": (
        lambda: published.mmaction2_3d(published.SLOW, 8),
        lambda s, x: Net(s, T).mmaction2_3d(x, i3d=False),
        T,
        "mmaction2-slow",
        "slow_resnet50",
    ),
    "mmaction2-i3d": (
        lambda: published.mmaction2_3d(published.I3D, 8),
        lambda s, x: Net(s, T).mmaction2_3d(x, i3d=True),
        8,
        "mmaction2-i3d",
        "i3d_resnet50",
    ),
    "torchvision": (
        lambda: published.torchvision(18, 16),
        lambda s, x: Net(s, T).plain(x, "fc", str, str, depth=18),
        T,
        "torchvision",
        "tsn_resnet18",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_scores_are_those_of_the_published_program(case: str, tmp_path: Path) -> None:
    make, theirs, frames, layout, name = CASES[case]
    state = make()
    file = saved(tmp_path / "best.pth.tar", state, module=case != "action-18")
    conversion = convert(file, segments=T)
    spec = conversion.checkpoint.spec
    assert (spec.name, spec.num_segments, spec.num_classes) == (name, T, 5)
    assert conversion.notes[0].startswith(f"layout {layout}: ")
    save_checkpoint(tmp_path / "ours.safetensors", conversion.checkpoint)
    checkpoint = read_checkpoint(tmp_path / "ours.safetensors")
    assert checkpoint.spec == spec
    assert checkpoint.recipe["converted_from"]["layout"] == layout
    model = checkpoint.build().double()
    x = clips(frames, 64)
    with torch.no_grad():
        ours = model(x)
    expected = theirs(state, x)
    assert expected.std() > 1e-4  # not a comparison of zeros
    torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-8)


def test_a_shift_that_were_lost_would_be_seen() -> None:
    """The comparison above can fail: the same tensors without the shift score differently."""
    state, x = published.tsm(18, 16), clips(T, 64)
    still = {k.replace(".net.", "."): v for k, v in state.items()}
    assert not torch.allclose(run_tsm(state, x, 18), run_tsm(still, x, 18), rtol=1e-3)


COUNTS: dict[str, tuple[Callable[[], State], str, str, int]] = {
    "tsm": (lambda: published.tsm(50, classes=174, device="meta"), "tsm", "tsm_resnet50", 320),
    "tsn": (
        lambda: published.tsm(50, classes=174, shift=False, device="meta"),
        "tsn",
        "tsn_resnet50",
        320,
    ),
    "rgbdiff": (
        lambda: published.rgbdiff(101, classes=174, device="meta"),
        "tsn",
        "rgbdiff_resnet101",
        626,
    ),
    "tea": (lambda: published.tea(classes=174, device="meta"), "tea", "tea_res2net50", 784),
    "action": (
        lambda: published.action(50, classes=174, device="meta"),
        "action",
        "action_resnet50",
        528,
    ),
    "tdn": (lambda: published.tdn(50, classes=174, device="meta"), "tdn", "tdn_resnet50", 789),
    "tdn-101": (
        lambda: published.tdn(101, classes=174, device="meta"),
        "tdn",
        "tdn_resnet101",
        789 + 17 * 47,
    ),
    "tam": (lambda: published.tam(50, 8, classes=174, device="meta"), "tam", "tam_resnet50", 544),
    "mmaction2-tsm": (
        lambda: published.mmaction2(50, classes=174, shift=True, device="meta"),
        "mmaction2-tsm",
        "tsm_resnet50",
        320,
    ),
    "mmaction2-tanet": (
        lambda: published.mmaction2(50, classes=174, tanet=8, device="meta"),
        "mmaction2-tanet",
        "tam_resnet50",
        544,
    ),
    "torchvision": (
        lambda: published.torchvision(50, classes=174, device="meta"),
        "torchvision",
        "tsn_resnet50",
        320,
    ),
    "action-101": (
        lambda: published.action(101, classes=174, device="meta"),
        "action",
        "action_resnet101",
        626 + 18 * 13,
    ),
}


@pytest.mark.parametrize("case", COUNTS)
def test_every_tensor_of_the_published_size_has_a_place(case: str) -> None:
    make, layout, name, count = COUNTS[case]
    state = make()
    assert len(state) == count
    with torch.device("meta"):
        model = create_model(name, 174)
    own = model.state_dict()
    carriers = {block_of(n + ".") for n, _ in model.named_modules() if n.endswith(".temporal")}
    head = "cls_head.fc_cls" if layout.startswith("mm") else LAYOUTS[layout].heads[0]
    theirs = LAYOUTS[layout].names(own, carriers, head)
    used = {k: tuple(v.shape) for k, v in state.items() if "conv1_temp" not in k}
    assert {t: tuple(own[o].shape) for o, t in theirs.items()} == used


def test_more_segments_than_a_checkpoint_may_have(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"300 segments .* 256 at most"):
        convert(saved(tmp_path / "x.pth", published.tdn(50, 8)), segments=300)


# --- strictness ------------------------------------------------------------------------------


def refused(tmp_path: Path, state: State, *options: object, **keywords: object) -> str:
    file = saved(tmp_path / "x.pth", state)
    with pytest.raises(UserError) as caught:
        convert(file, *options, **{"segments": T, **keywords})  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.startswith(str(file))
    assert "\n" not in message
    return message


STRICT = {
    "tsm": (lambda: published.tsm(18, 8), "base_model.layer2.0.conv1.net.weight"),
    "action": (lambda: published.action(18, 8), "base_model.layer1.1.conv1.action_p1_conv1.weight"),
    "tam": (lambda: published.tam(18, T, 8), "base_model.layer4.1.tam.L.3.weight"),
    "tdn": (lambda: published.tdn(50, 8), "base_model.layer3_bak.2.mse.conv3_smallscale4.weight"),
    "tea": (lambda: published.tea(8), "base_model.layer1.0.shifts.3.conv.weight"),
    "mmaction2-tsm": (
        lambda: published.mmaction2(18, 8, shift=True),
        "backbone.layer3.0.downsample.bn.running_mean",
    ),
    "torchvision": (lambda: published.torchvision(18, 8), "layer4.1.bn2.bias"),
}


@pytest.mark.parametrize("layout", STRICT)
def test_one_tensor_that_is_missing_left_over_or_misshaped_is_named(
    layout: str, tmp_path: Path
) -> None:
    make, key = STRICT[layout]
    state = make()
    assert convert(saved(tmp_path / "whole.pth", state), segments=T)
    short = {k: v for k, v in state.items() if k != key}
    assert f"it lacks {key}" in refused(tmp_path, short)
    assert key + ".more" in refused(tmp_path, {**state, key + ".more": torch.ones(2)})
    misshaped = {**state, key: torch.ones(state[key].numel() + 1)}
    said = refused(tmp_path, misshaped)
    assert f"it differs in {key}: ({state[key].numel() + 1},) for {tuple(state[key].shape)}" in said
    assert "lacks" not in said


def test_integers_are_no_weights(tmp_path: Path) -> None:
    state = published.tsm(18, 8)
    state["new_fc.weight"] = state["new_fc.weight"].to(torch.int64)
    assert "it differs in new_fc.weight: (5, 64) int64" in refused(tmp_path, state)


def test_many_misfits_are_counted(tmp_path: Path) -> None:
    state = published.tsm(18, 8)
    short = {k: v for k, v in state.items() if "layer3" not in k or "conv1" not in k}
    for k in range(9):
        short[f"base_model.odd{k}"] = torch.ones(1)
    said = refused(tmp_path, {k: v for k, v in short.items() if "bn1" not in k})
    assert "it lacks base_model.bn1.weight" in said
    assert "base_model.odd0, base_model.odd1, base_model.odd2, base_model.odd3 and 5 more" in said


def test_a_second_classifier_is_refused(tmp_path: Path) -> None:
    state = published.tsm(18, 8)
    state["base_model.fc.weight"] = state["new_fc.weight"]
    assert "it also has base_model.fc.weight" in refused(tmp_path, state)


def test_a_shift_in_some_blocks_only_is_not_tsm(tmp_path: Path) -> None:
    state = published.tsm(18, 8)
    state["base_model.layer2.1.conv1.weight"] = state.pop("base_model.layer2.1.conv1.net.weight")
    said = refused(tmp_path, state)
    assert "it lacks base_model.layer2.1.conv1.net.weight" in said
    assert "also has base_model.layer2.1.conv1.weight" in said


def test_tensors_that_tdn_does_not_use_are_left_out_with_a_note(tmp_path: Path) -> None:
    notes = convert(saved(tmp_path / "x.pth", published.tdn(50, 8)), segments=8).notes
    (said,) = [note for note in notes if "not used by" in note]
    assert "base_model.conv1_temp.weight, base_model.conv1_temp.bias" in said


def test_counters_that_old_files_lack_start_at_zero(tmp_path: Path) -> None:
    state = published.torchvision(18, 8)
    old = {k: v for k, v in state.items() if "num_batches" not in k}
    conversion = convert(saved(tmp_path / "x.pth", old))
    assert any(note.startswith("20 counters") for note in conversion.notes)
    assert int(conversion.checkpoint.tensors["bn1.num_batches_tracked"]) == 0
    conversion.checkpoint.build()


def test_differences_are_of_values_that_are_not_normalised(tmp_path: Path) -> None:
    file = saved(tmp_path / "x.pth", published.rgbdiff(18, 8))
    spec = convert(file, segments=T).checkpoint.spec
    assert (spec.frames_per_segment, spec.sampling) == (6, "tsn")
    assert (spec.mean, spec.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.mark.parametrize("image", [False, True])
def test_a_plain_res2net_is_its_tsn(image: bool, tmp_path: Path) -> None:
    state = {k: v for k, v in published.tea(16).items() if ".me." not in k and "shifts" not in k}
    if image:  # under the names of timm
        state = {k.removeprefix("base_model.").replace("new_fc", "fc"): v for k, v in state.items()}
    checkpoint = convert(saved(tmp_path / "x.pth", state), segments=T).checkpoint
    assert checkpoint.spec.name == "tsn_res2net50"
    theirs = {k.removeprefix("base_model.").replace("new_fc", "fc"): v for k, v in state.items()}
    assert checkpoint.tensors.keys() == theirs.keys()
    assert all(torch.equal(checkpoint.tensors[k], v) for k, v in theirs.items())
    checkpoint.build()


def test_half_precision_is_widened(tmp_path: Path) -> None:
    state = {k: v.half() if v.is_floating_point() else v for k, v in published.tsm(18, 8).items()}
    tensors = convert(saved(tmp_path / "x.pth", state), segments=T).checkpoint.tensors
    assert tensors["fc.weight"].dtype == torch.float32
    assert torch.equal(tensors["fc.weight"], state["new_fc.weight"].float())


# --- recognition -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "shape", "said"),
    [
        ("base_model.layer2.0.nl.g.weight", (2, 2), "non-local"),
        ("backbone.layer2.0.non_local_block.g.conv.weight", (2, 2), "non-local"),
        ("base_model.inception_3a_1x1.weight", (2, 2), "BNInception"),
        ("encoder.blocks.0.attn.qkv.weight", (2, 2), "no known layout has keys such as encoder"),
        ("base_model.layer1.0.net.conv1.weight", (2, 2), "a shift before whole blocks"),
        ("base_model.conv1.weight", (8, 10, 7, 7), "takes 10 channels, such as optical flow"),
        ("backbone.conv1.conv.weight", (8, 15, 7, 7), "takes 15 channels"),
        ("base_model.conv1.weight", (8, 3, 5, 7, 7), "not a 2D network"),
        ("backbone.conv1.conv.weight", (8, 3, 3, 7, 7), "its stages have"),
        ("base_model.layer1.0.conv1.net.weight", (2, 2), "lacks the first convolution"),
    ],
)
def test_unsupported_networks_are_refused(
    key: str, shape: tuple[int, ...], said: str, tmp_path: Path
) -> None:
    assert said in refused(tmp_path, {key: torch.ones(shape)})


def test_a_depth_that_is_not_here_is_refused(tmp_path: Path) -> None:
    state = published.torchvision(18, 8)
    state |= {
        k.replace("layer3.1", f"layer3.{i}"): v
        for k, v in state.items()
        for i in range(2, 9)
        if "layer3.1" in k
    }
    assert "its stages have (2, 2, 9, 2) basic blocks" in refused(tmp_path, state)


def test_from_must_agree_with_the_keys(tmp_path: Path) -> None:
    state = published.tsm(18, 8)
    said = refused(tmp_path, state, "tdn")
    assert "--from tdn, but the keys are those of tsm" in said
    plain = published.tsm(18, 8, shift=False)
    assert "the keys are those of tsn" in refused(tmp_path, plain, "tsm")
    with pytest.raises(UserError, match="the layouts are tdn, tam"):
        convert(tmp_path / "x.pth", "caffe")
    file = saved(tmp_path / "timm.pth", published.torchvision(18, 8))
    assert convert(file, "timm").notes[0].startswith("layout timm")
    assert convert(file, "torchvision").notes[0].startswith("layout torchvision")


def test_the_same_weights_as_safetensors(tmp_path: Path) -> None:
    state = published.torchvision(18, 8)
    save_file(state, tmp_path / "model.safetensors")
    ours = convert(tmp_path / "model.safetensors").checkpoint.tensors
    theirs = convert(saved(tmp_path / "x.pth", state)).checkpoint.tensors
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_ours_need_no_conversion(tmp_path: Path) -> None:
    file = saved(tmp_path / "x.pth", published.torchvision(18, 8))
    save_checkpoint(tmp_path / "ours.safetensors", convert(file).checkpoint)
    with pytest.raises(UserError, match="a checkpoint of smnet already"):
        convert(tmp_path / "ours.safetensors")


def test_averaged_weights_are_preferred_with_a_note(tmp_path: Path) -> None:
    plain, state = published.torchvision(18, 8), published.torchvision(18, 8)
    torch.save({"state_dict": plain, "state_dict_ema": state}, tmp_path / "x.pth")
    conversion = convert(tmp_path / "x.pth")
    assert torch.equal(conversion.checkpoint.tensors["conv1.weight"], state["conv1.weight"])
    assert any("averaged weights (state_dict_ema)" in note for note in conversion.notes)


# --- normalisation ---------------------------------------------------------------------------

HALF = (0.5, 0.5, 0.5)


def hub_card(folder: Path, architecture: str = "resnet18", **pretrained: object) -> Path:
    """A file as on the hub, with the config.json that timm writes beside it."""
    card = {"architecture": architecture, "num_classes": 5, "pretrained_cfg": pretrained}
    (folder / "config.json").write_text(json.dumps(card))
    save_file(published.torchvision(18, 8), folder / "model.safetensors")
    return folder / "model.safetensors"


def test_normalisation_is_imagenets_by_default(tmp_path: Path) -> None:
    file = saved(tmp_path / "x.pth", published.torchvision(18, 8))
    conversion = convert(file)
    assert conversion.checkpoint.spec.mean == (0.485, 0.456, 0.406)
    assert any("ImageNet's mean" in note for note in conversion.notes)
    spec = convert(file, mean=HALF, std=(0.25, 0.3, 0.35)).checkpoint.spec
    assert (spec.mean, spec.std) == (HALF, (0.25, 0.3, 0.35))


def test_timms_card_tells_the_normalisation(tmp_path: Path) -> None:
    file = hub_card(tmp_path, mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])
    conversion = convert(file, "timm")
    assert (conversion.checkpoint.spec.mean, conversion.checkpoint.spec.std) == (HALF, HALF)
    assert any("config.json" in note for note in conversion.notes)
    spec = convert(file, mean=(0.1, 0.2, 0.3), std=HALF).checkpoint.spec
    assert spec.mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"pretrained_cfg": 3}',
        "[" * 100_000,
        '{"pretrained_cfg": {"mean": [0.5], "std": "x"}}',
        '{"pretrained_cfg": {"mean": ["a", "b", "c"], "std": [0, 0, 0]}}',
    ],
)
def test_another_config_says_nothing(text: str, tmp_path: Path) -> None:
    file = saved(tmp_path / "x.pth", published.torchvision(18, 8))
    (tmp_path / "config.json").write_text(text)
    assert convert(file).checkpoint.spec.mean == (0.485, 0.456, 0.406)


def test_a_network_that_only_its_card_tells_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="resnetblur18 has filters"):
        convert(hub_card(tmp_path, "resnetblur18", mean=list(HALF), std=list(HALF)))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mean", "0.5,0.5,0.5"], "give both"),
        (["--mean", "0.5,0.5", "--std", "1,1,1"], "three numbers each"),
        (["--mean", "123,117,104", "--std", "58,57,57"], "three numbers each"),
        (["--mean", "0.5,0.5,0.5", "--std", "1,1,0"], "three numbers each"),
        (["--mean", "half", "--std", "1,1,1"], "write three numbers, such as 0.5,0.5,0.5"),
    ],
)
def test_wrong_normalisations(words: list[str], said: str, tmp_path: Path) -> None:
    file, out = saved(tmp_path / "x.pth", published.torchvision(18, 8)), tmp_path / "o.safetensors"
    result = CliRunner().invoke(app, ["convert", str(file), "--out", str(out), *words])
    assert said in str(result.exception)
    assert not out.exists()


def test_the_verb_takes_a_normalisation(tmp_path: Path) -> None:
    file, out = saved(tmp_path / "x.pth", published.torchvision(18, 8)), tmp_path / "o.safetensors"
    words = ["convert", str(file), "--out", str(out), "--mean", "0.5,0.5,0.5", "--std", "1,.5,1"]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert read_checkpoint(out).spec.std == (1.0, 0.5, 1.0)
    differences = saved(tmp_path / "y.pth", published.rgbdiff(18, 8))
    with pytest.raises(UserError, match="takes frames from 0 to 1"):
        convert(differences, segments=T, mean=HALF, std=HALF)


# --- segments, sampling, shift ---------------------------------------------------------------

TSM_NAME = "TSM_something_RGB_resnet18_shift8_blockres_avg_segment16_e45"


def small(path: Path, **options: object) -> Conversion:
    path.parent.mkdir(exist_ok=True, parents=True)
    return convert(saved(path, published.tsm(18, 8)), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "segments", "sampling"),
    [
        (f"{TSM_NAME}.pth", 16, "tsn"),
        (f"{TSM_NAME}_dense.pth", 16, "tsm-dense"),
        (f"{TSM_NAME}/ckpt.best.pth.tar", 16, "tsn"),
        ("TDN__something_RGB_resnet50_avg_segment8_e60/best.pth.tar", 8, "tsn"),
        ("tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_kinetics400-rgb_2022-64d6.pth", 8, "tsn"),
        ("tsm_imagenet-pretrained-r50_8xb16-dense-1x1x8-50e_kinetics400.pth", 8, "tsm-dense"),
    ],
)
def test_the_file_name_tells_segments_and_sampling(
    name: str, segments: int, sampling: str, tmp_path: Path
) -> None:
    spec = small(tmp_path / name).checkpoint.spec
    assert (spec.num_segments, spec.sampling) == (segments, sampling)


def test_segments_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--segments"):
        small(tmp_path / "best.pth")
    assert small(tmp_path / "best.pth", segments=12).checkpoint.spec.num_segments == 12
    assert small(tmp_path / f"{TSM_NAME}.pth", segments=4).checkpoint.spec.num_segments == 4
    with pytest.raises(UserError, match="at least 1"):
        small(tmp_path / "best.pth", segments=0)


def test_an_image_network_has_no_segments_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "exp_segment16").mkdir()
    file = saved(tmp_path / "exp_segment16" / "resnet18.pth", published.torchvision(18, 8))
    assert convert(file).checkpoint.spec.num_segments == 8
    assert convert(file, segments=16).checkpoint.spec.num_segments == 16


def test_the_segments_of_tam_are_in_its_shapes(tmp_path: Path) -> None:
    file = saved(tmp_path / "x.pth", published.tam(18, 16, 8))
    spec = convert(file).checkpoint.spec
    assert (spec.num_segments, spec.sampling) == (16, "tam-uniform")
    with pytest.raises(UserError, match="has the shape of 16 segments"):
        convert(file, segments=8)


def test_tdn_mixes_as_its_segments_say(tmp_path: Path) -> None:
    file = saved(tmp_path / "x.pth", published.tdn(50, 8))
    checkpoint = convert(file, segments=8).checkpoint
    assert (checkpoint.spec.frames_per_segment, checkpoint.spec.sampling) == (5, "tdn")
    assert checkpoint.build().difference_weight == 0.5  # the scores above are of 1/4


@pytest.mark.parametrize(
    ("layout", "make", "sampling"),
    [
        ("mmaction2-tsm", lambda: published.mmaction2(18, 8, shift=True), "mmaction2"),
        ("action", lambda: published.action(18, 8), "tsn"),
        ("torchvision", lambda: published.torchvision(18, 8), "uniform"),
    ],
)
def test_sampling_is_the_published_rule_or_the_given_one(
    layout: str, make: Callable[[], State], sampling: str, tmp_path: Path
) -> None:
    file = saved(tmp_path / "x.pth", make())
    assert convert(file, segments=T).checkpoint.spec.sampling == sampling
    assert convert(file, segments=T, sampling="twice").checkpoint.spec.sampling == "twice"
    with pytest.raises(UserError, match="--sampling often: unknown; use uniform, dense"):
        convert(file, segments=T, sampling="often")


def test_another_part_of_the_channels_shifted(tmp_path: Path) -> None:
    conversion = small(tmp_path / f"{TSM_NAME.replace('shift8', 'shift4')}.pth")
    assert conversion.checkpoint.spec.options["shift_div"] == 4
    with pytest.raises(UserError, match="tpool"):
        small(tmp_path / f"{TSM_NAME.replace('_avg', '_tpool_avg')}.pth")


# --- class names -----------------------------------------------------------------------------


def lines(path: Path, *names: str) -> Path:
    path.write_text("\n".join(names), encoding="utf-8")
    return path


FIVE = ("Pushing", "Approaching", "Lifting", "Closing", "Opening")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.txt", "\n".join(FIVE)),
        ("names.csv", "id,name\n" + "\n".join(f"{i},{n}" for i, n in enumerate(FIVE))),
        ("labels.csv", "id;label\n" + "\n".join(f"{i};{n}" for i, n in enumerate(FIVE))),
        ("bare.csv", "\n".join(f'{i};"{n}"' for i, n in enumerate(FIVE))),
        ("labels.json", json.dumps({n: str(i) for i, n in enumerate(FIVE)})),
    ],
)
def test_class_names_from_a_file(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    conversion = small(tmp_path / "x.pth", segments=T, classes=tmp_path / name)
    assert conversion.checkpoint.spec.class_names == FIVE
    conversion = small(
        tmp_path / "x.pth", segments=T, classes=tmp_path / name, class_order="sorted"
    )
    assert conversion.checkpoint.spec.class_names == tuple(sorted(FIVE))


def test_two_classes_of_one_name_are_made_distinct(tmp_path: Path) -> None:
    """As the two cranes of ImageNet."""
    names = lines(tmp_path / "names.txt", "crane", "b", "maillot", "crane", "e")
    conversion = small(tmp_path / "x.pth", segments=T, classes=names)
    distinct = ("crane (0)", "b", "maillot", "crane (3)", "e")
    assert conversion.checkpoint.spec.class_names == distinct
    assert any(note.endswith("made distinct: crane (0), crane (3)") for note in conversion.notes)
    with pytest.raises(UserError, match="'crane' occurs twice"):
        small(tmp_path / "x.pth", segments=T, classes=names, class_order="sorted")


def test_the_number_of_class_names_must_match(tmp_path: Path) -> None:
    names = lines(tmp_path / "names.txt", *FIVE[:4])
    with pytest.raises(UserError, match=r"names.txt: 4 class names.* has 5"):
        small(tmp_path / "x.pth", segments=T, classes=names)
    with pytest.raises(UserError, match="--class-order sort: use file or sorted"):
        small(tmp_path / "x.pth", segments=T, classes=names, class_order="sort")
    with pytest.raises(UserError, match="give both"):
        small(tmp_path / "x.pth", segments=T, class_order="sorted")


def test_without_class_names_a_note_says_so(tmp_path: Path) -> None:
    conversion = small(tmp_path / "x.pth", segments=T)
    assert conversion.checkpoint.spec.class_names is None
    assert any("by number" in note for note in conversion.notes)


def test_the_order_of_something_v1_is_never_assumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from smnet.checkpoints import convert as module

    monkeypatch.setattr(module, "_SOMETHING", module.names_digest(tuple(reversed(FIVE))))
    names = lines(tmp_path / "names.txt", *FIVE)
    with pytest.raises(UserError, match=r"--class-order sorted or --class-order file"):
        small(tmp_path / f"{TSM_NAME}.pth", classes=names)
    for order, expected in (("file", FIVE), ("sorted", tuple(sorted(FIVE)))):
        conversion = small(tmp_path / f"{TSM_NAME}.pth", classes=names, class_order=order)
        assert conversion.checkpoint.spec.class_names == expected
    v2 = small(tmp_path / f"{TSM_NAME.replace('_something_', '_somethingv2_')}.pth", classes=names)
    assert v2.checkpoint.spec.class_names == tuple(sorted(FIVE))
    lines(tmp_path / "names.txt", "[Pushing]", *FIVE[1:])
    v2 = small(tmp_path / f"{TSM_NAME.replace('_something_', '_somethingv2_')}.pth", classes=names)
    assert v2.checkpoint.spec.class_names == tuple(sorted(FIVE))


@pytest.mark.skipif(not LABELMAPS.is_dir(), reason="the label files are not here")
@pytest.mark.parametrize(
    "file",
    [
        "something_v1/category.txt",
        "something_v2/category.txt",
        "something_v2/something-something-v2-labels.json",
    ],
)
def test_the_real_names_of_something_are_known(file: str) -> None:
    from smnet.checkpoints import convert as module
    from smnet.data.annotations.names import read_class_names

    assert module.names_digest(read_class_names(LABELMAPS / file)) == module._SOMETHING


# --- the verb ----------------------------------------------------------------------------------


def test_the_verb(tmp_path: Path) -> None:
    file = saved(tmp_path / f"{TSM_NAME}.pth", published.tsm(18, 8), module=True)
    names, out = lines(tmp_path / "names.txt", *FIVE), tmp_path / "ours.safetensors"
    words = ["convert", str(file), "--from", "tsm", "--classes", str(names), "--out", str(out)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    for said in ("layout tsm", "tsm_resnet18, 5 classes", "16 segments", "names.txt", "written"):
        assert said in result.output
    text = CliRunner().invoke(app, ["convert", "--help"]).output
    assert all(layout in text for layout in LAYOUTS)
    spec = read_checkpoint(out).spec
    assert (spec.class_names, spec.options) == (FIVE, {"width": 8})
    model = create_model("tsm_resnet18", 3, width=8)
    assert start_from(model, str(out)).startswith("weights: tsm_resnet18 from")


def test_nothing_is_written_where_anything_is_wrong(tmp_path: Path) -> None:
    state = published.tsm(18, 8)
    del state["base_model.bn1.bias"]
    file, out = saved(tmp_path / f"{TSM_NAME}.pth", state), tmp_path / "sub" / "ours.safetensors"
    result = CliRunner().invoke(app, ["convert", str(file), "--out", str(out)])
    assert isinstance(result.exception, UserError)
    assert not out.parent.exists()
    before = file.read_bytes()
    result = CliRunner().invoke(app, ["convert", str(file), "--out", str(file)])
    assert isinstance(result.exception, UserError)
    assert file.read_bytes() == before
