"""The registry: what holds for every model, names, and options."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from smnet.models import (
    ModelSpec,
    VideoModel,
    build_model,
    create_model,
    list_models,
    load_weights,
    multiply_adds,
    parameter_count,
    to_channels_last,
)
from smnet.models.options import describe, read_options
from smnet.models.registry import FAMILIES, family_of, new_model, option_types
from smnet.models.tdn import TDNOptions
from smnet.models.trunks import ResNetTrunkOptions
from smnet.models.tsm import TSMOptions

CLASSES, SEGMENTS = 7, 4


def create(name: str, segments: int = SEGMENTS) -> VideoModel:
    """The model, as small as its family allows."""
    try:
        return create_model(name, CLASSES, segments, width=8)
    except ValueError as error:
        if "no option 'width'" not in str(error):
            raise
        return create_model(name, CLASSES, segments)


@functools.cache
def shared(name: str) -> VideoModel:
    """One instance for the tests that leave it as it was; no value of it at a special start."""
    torch.manual_seed(0)
    model = create(name)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.02 * torch.randn_like(p)
    return model.eval()


def clips_for(model: VideoModel, batch: int = 2, segments: int = SEGMENTS) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    frames = segments * model.spec.frames_per_segment
    return torch.randn(batch, frames, 3, 32, 32, generator=generator)


every_model = pytest.mark.parametrize("name", list_models())
every_block = pytest.mark.parametrize(
    "name", [name for name in list_models() if not name.endswith(("resnet34", "resnet101"))]
)
"""Without the trunks that only have more of the same blocks."""


@pytest.mark.usefixtures("few_blocks")
@every_model
def test_scores_and_features(name: str) -> None:
    model = shared(name)
    clips = clips_for(model)
    with torch.no_grad():
        scores, features = model(clips), model.forward_features(clips)
        again = model.forward_head(features)
    assert scores.shape == (2, CLASSES)
    assert torch.isfinite(scores).all()
    assert features.dim() == 5
    assert features.shape[0] == 2
    assert 1 <= features.shape[1] <= SEGMENTS
    assert features.shape[2] == model.num_features
    assert features.shape[3:] == (1, 1)
    torch.testing.assert_close(again, scores)


@pytest.mark.usefixtures("few_blocks")
@every_block
def test_temporal_parts_keep_the_shape(name: str) -> None:
    model = shared(name)

    def check(part: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        took, gave = (getattr(a, "shape", type(a)) for a in (args[0], out))
        assert gave == took, f"{type(part).__name__} took {took} and gave {gave}"

    parts = [m for n, m in model.named_modules() if n.endswith(".temporal")]
    hooks = [part.register_forward_hook(check) for part in parts]
    try:
        with torch.no_grad():
            model(clips_for(model))
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.usefixtures("few_blocks")
@every_model
def test_no_attribute_hides_a_method_of_its_module(name: str) -> None:
    for path, module in shared(name).named_modules():
        for attribute in (*vars(module), *module._modules):
            hidden = callable(getattr(nn.Module, attribute, None))
            assert not hidden, f"{path}.{attribute} hides nn.Module.{attribute}(): rename it"


@pytest.mark.usefixtures("few_blocks")
@every_model
def test_uncounted_products_are_declared(name: str) -> None:
    """The counter sees convolutions and matrix products only."""
    for path, module in shared(name).named_modules():
        own = {n for n, _ in module.named_parameters(recurse=False)} - {"bias"}
        if own and not type(module).__module__.startswith("torch.nn."):
            parts = module.modules()  # the method may be that of a part, such as TemporalSum
            assert any(hasattr(part, "uncounted_multiply_adds") for part in parts), (
                f"{path} has {', '.join(sorted(own))}: {type(module).__name__} needs a method"
                " uncounted_multiply_adds(x, num_segments), which may return 0"
            )


@pytest.mark.usefixtures("few_blocks")
@every_block
def test_every_parameter_learns(name: str) -> None:
    unlearned: set[str] | None = None
    for seed in range(8):  # at these sizes a ReLU of a single channel may be closed by chance
        torch.manual_seed(seed)
        model = create(name).train()
        to_channels_last(model)  # as in training
        with torch.no_grad():
            for p in model.parameters():
                p += 0.02 * torch.randn_like(p)
        scores = model(clips_for(model, batch=3))
        nn.functional.cross_entropy(scores, torch.tensor([0, 3, 6])).backward()
        assert not [k for k, p in model.named_parameters() if p.grad is None]
        assert not [k for k, p in model.named_parameters() if not torch.isfinite(p.grad).all()]
        zero = {k for k, p in model.named_parameters() if not p.grad.any()}
        unlearned = zero if unlearned is None else unlearned & zero
        if not unlearned:
            break
    assert not unlearned


@pytest.mark.usefixtures("few_blocks")
@every_block
def test_specification_builds_the_model_again(name: str) -> None:
    model = shared(name)
    assert model.spec.name == name
    assert (model.spec.num_classes, model.spec.num_segments) == (CLASSES, SEGMENTS)
    spec = ModelSpec.from_dict(json.loads(json.dumps(model.spec.to_dict())))
    assert spec == model.spec
    again = build_model(spec)
    again.load_state_dict(model.state_dict())
    clips = clips_for(model)
    with torch.no_grad():
        assert torch.equal(again.eval()(clips), model(clips))


@pytest.mark.usefixtures("few_blocks")
@every_block
def test_evaluation_is_deterministic_and_clips_are_independent(name: str) -> None:
    model = shared(name)
    clips = clips_for(model, batch=3)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        scores = model(clips)
        assert torch.equal(model(clips), scores)
        apart = torch.cat([model(clip[None]) for clip in clips])
    torch.testing.assert_close(apart, scores, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@functools.cache
def refuses_other_lengths(name: str) -> bool:
    """Whether the number of segments is in the shapes of the model's weights, as only it may be,
    or in their number."""
    with torch.device("meta"):
        other = create(name, SEGMENTS + 1).state_dict()
    own = shared(name).state_dict()
    return {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in other.items()}


@pytest.mark.usefixtures("few_blocks")
@every_block
@pytest.mark.parametrize("segments", [1, 6])
def test_another_number_of_segments(name: str, segments: int) -> None:
    model = shared(name)
    clips = clips_for(model, segments=segments)
    if refuses_other_lengths(name):
        with pytest.raises(ValueError, match=str(SEGMENTS)):
            model(clips)
        return
    with torch.no_grad():
        scores = model(clips)
    assert scores.shape == (2, CLASSES)
    assert torch.isfinite(scores).all()


@pytest.mark.usefixtures("few_blocks")
@every_block
def test_image_weights_start_the_trunk(name: str) -> None:
    plain = f"tsn_{name.partition('_')[2]}"
    if plain not in list_models():
        pytest.skip(f"no {plain} to take image weights from")
    image = {k: torch.rand(v.shape).to(v.dtype) for k, v in create(plain).state_dict().items()}
    model = create(name)
    start = {k: v.clone() for k, v in model.state_dict().items()}
    load_weights(model, image)
    loaded = model.state_dict()
    for key, value in loaded.items():
        if key in image and not key.startswith("fc.") and value.shape == image[key].shape:
            assert torch.equal(value, image[key]), key
    own = [k for k in loaded if k.startswith("fc.") or ".temporal." in k]
    assert all(torch.equal(loaded[k], start[k]) for k in own)


@pytest.mark.usefixtures("few_blocks")
@every_model
def test_a_clip_of_another_shape_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected clips of shape"):
        shared(name)(torch.zeros(2, 3, 32, 32))


# ---------------------------------------------------------------- names and options


@every_model
def test_names_are_family_and_trunk(name: str) -> None:
    family, _, trunk = name.partition("_")
    # A name of letters comes of a text where a tuple of texts was meant.
    assert len(trunk) > 1, f"{name}: trunks=(NAME, ...) of its family must be a tuple"
    assert family_of(name) is FAMILIES[family]


def test_names_are_sorted() -> None:
    names = list_models()
    assert names == sorted(set(names))
    assert {"smnet_resnet50", "smnet_resnet18", "tsn_resnet50"} <= set(names)


@pytest.mark.parametrize("key", FAMILIES)
def test_a_family_has_a_name_without_an_underscore(key: str) -> None:
    assert re.fullmatch("[a-z][a-z0-9]*", key)


def test_names_by_pattern() -> None:
    smnets = list_models("smnet_*")
    assert smnets == [n for n in list_models() if n.startswith("smnet_")]
    assert "tsn_resnet50" in list_models("*_resnet50")
    assert list_models("nothing*") == []


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("smnet_resnet5O", "smnet_resnet50"),
        ("smnet-resnet50", "smnet_resnet50"),
        ("SMNet_ResNet50", "smnet_resnet50"),
        ("smnet", "smnet_resnet"),
        ("tsn_resnet19", "tsn_resnet18"),
    ],
)
def test_unknown_model_names_the_nearest(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"no model is called '{name}'; did you mean.*{near}"):
        create_model(name, 5)


@pytest.mark.parametrize("name", ["", "_", "qqqqqqqqqqqqqqqqqqqqq"])
def test_unknown_model_with_nothing_near(name: str) -> None:
    with pytest.raises(ValueError, match="`smnet models` lists them"):
        create_model(name, 5)


@pytest.mark.parametrize(
    ("name", "option", "near"),
    [
        ("smnet_resnet18", "group", "groups"),
        ("smnet_resnet18", "attentoin", "attention"),
        ("smnet_resnet18", "widht", "width"),
        ("tsn_resnet18", "dropuot", "dropout"),
        ("tsn_resnet18", "stride", "stride_in"),
    ],
)
def test_unknown_option_names_the_nearest(name: str, option: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"{name} has no option '{option}'; did you mean '{near}'"):
        create_model(name, 5, **{option: 8})


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("smnet_resnet18", "colour"),
        ("tsn_resnet18", "motion_inputs"),  # near an option of another family only
        ("tsn_resnet18", "depth"),  # said by the name
        ("tsn_resnet18", "trunk"),
        ("tsn_resnet18", "spec"),
    ],
)
def test_unknown_option_without_a_near_name(name: str, option: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} has no option '{option}'") as caught:
        create_model(name, 5, **{option: 50})
    assert f"did you mean {option!r}" not in str(caught.value)
    assert "motion_input'" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "option", "value", "message"),
    [
        (
            "smnet_resnet18",
            "groups",
            "abc",
            "of at least 1, or null, not 'abc'",
        ),
        (
            "smnet_resnet18",
            "groups",
            True,
            "of at least 1, or null, not True",
        ),
        ("smnet_resnet18", "attention_norm", 1, "attention_norm must be true or false, not 1"),
        ("tsn_mobilenetv2", "width", "8", "width must be a multiple of 8 from 8 to 512, not '8'"),
        ("tsm_resnet50", "width", None, "width must be a multiple of 8 from 8 to 512, not None"),
        (
            "tsn_resnet18",
            "width",
            10**6,
            "a multiple of 8 from 8 to 512, not 1000000",
        ),
        ("tsn_resnet18", "width", 0, "width must be a multiple of 8 from 8 to 512, not 0"),
        ("tsn_resnet18", "width", -8, "width must be a multiple of 8 from 8 to 512, not -8"),
        ("tsn_resnet18", "dropout", "none", "dropout must be a number from 0 to 1, not 'none'"),
        ("i3d_resnet18", "width", 8.0, "width must be a multiple of 8 from 8 to 512, not 8.0"),
        ("smnet_resnet18", "stages", [1, 2], "stages must be a non-empty list, each 2, 3, 4 or 5"),
        ("smnet_resnet18", "order", "last", "order must be temporal_first, parallel or attention"),
    ],
)
def test_impossible_values_name_the_range_or_the_choices(
    name: str, option: str, value: object, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        new_model(name, 5, 4, {option: value})
    assert "\n" not in str(caught.value)


def test_null_and_whole_numbers_where_they_are_allowed() -> None:
    new_model("smnet_resnet18", 5, 4, {"groups": None, "width": 8, "dropout": 0})


@pytest.mark.parametrize("option", ["temporal", "block"])
@pytest.mark.parametrize(
    "name", ["tsn_resnet18", "rgbdiff_resnet18", "tdn_resnet18", "tsm_resnet50"]
)
def test_arguments_of_trunks_are_no_options(name: str, option: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} has no option '{option}'"):
        create_model(name, 5, **{option: None})


@pytest.mark.parametrize("option", ["name", "num_classes", "num_segments", "weights"])
def test_arguments_of_create_model_are_no_options(option: str) -> None:
    for name in ("smnet_resnet18", "i3d_resnet18", "tsn_mobilenetv2"):
        with pytest.raises(ValueError, match=f"^{name} has no option '{option}'"):
            new_model(name, 5, 4, {option: 3})


@pytest.mark.parametrize("trunk", ["resnet18", "res2net50", "mobilenetv2"])
def test_a_family_without_temporal_part_has_no_place(trunk: str) -> None:
    with pytest.raises(ValueError, match="place must be before_conv1"):
        create_model(f"tsn_{trunk}", 5, place="after_conv1")


@every_model
def test_every_option_is_documented_and_has_a_possible_default(name: str) -> None:
    rows = [row for declaration in option_types(name) for row in describe(declaration)]
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert row.meaning.endswith("."), row
        assert row.accepted, row
    defaults = {row.name: yaml.safe_load(row.default) for row in rows}
    assert read_options(name, option_types(name), defaults) == read_options(
        name, option_types(name), {}
    )


@pytest.mark.parametrize("key", FAMILIES)
def test_cost_of_a_family_beside_tsn(key: str) -> None:
    family = FAMILIES[key]
    trunk = "resnet50" if "resnet50" in family.trunks else family.trunks[0]
    with torch.device("meta"):
        model, plain = (create_model(f"{k}_{trunk}", 400, 8) for k in (key, "tsn"))
    parameters = parameter_count(model) / parameter_count(plain)
    computed = multiply_adds(model, size=64) / multiply_adds(plain, size=64)
    assert family.cost == (pytest.approx(parameters, abs=0.006), pytest.approx(computed, abs=0.02))


def test_declarations_of_a_model() -> None:
    assert option_types("tsm_resnet18") == [TSMOptions, ResNetTrunkOptions]
    assert option_types("tdn_resnet18") == [TDNOptions]
    with pytest.raises(ValueError, match="no model is called"):
        option_types("tsm_resnet19")


@pytest.mark.parametrize("family", ["tsm", "teinet", "action", "tam"])
def test_only_smnet_replaces_a_convolution(family: str) -> None:
    with pytest.raises(ValueError, match="place must be before_conv1 or after_conv1, not 'instead"):
        create_model(f"{family}_resnet50", 5, width=8, place="instead_of_conv2")


def test_options_and_numbers_are_recorded() -> None:
    model = create_model("smnet_resnet18", 5, 16, width=8, groups=2, stages=[4, 5])
    assert model.spec.num_classes == 5
    assert model.spec.num_segments == 16
    assert model.spec.options == {"width": 8, "groups": 2, "stages": (4, 5)}


@pytest.mark.parametrize("numbers", [{"num_classes": 0}, {"num_classes": 5, "num_segments": 0}])
def test_impossible_numbers(numbers: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 1, not 0"):
        create_model("tsn_resnet18", **numbers)


def test_weights_none_is_random() -> None:
    for weights in (None, "none"):
        torch.manual_seed(0)
        first = create_model("tsn_resnet18", 5, width=8, weights=weights)
        torch.manual_seed(0)
        second = create_model("tsn_resnet18", 5, width=8)
        pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


SHARES = {
    "action_resnet18": ("reduction", "shift_div"),
    "stm_resnet18": ("reduction",),
    "tea_res2net50": ("reduction",),
    "teinet_resnet18": ("reduction", "shift_div"),
}


@pytest.mark.parametrize(("name", "option"), [(n, o) for n, found in SHARES.items() for o in found])
@pytest.mark.parametrize("below", [1, 4])
def test_impossible_shares_of_the_channels(name: str, option: str, below: int) -> None:
    least = {"reduction": 1, "shift_div": 2}[option]
    with pytest.raises(ValueError, match=f"{option} must be a whole number of at least {least}"):
        create_model(name, 3, 2, width=8, **{option: least - below})


@pytest.mark.parametrize("name", ["tsn_resnet18", "rgbdiff_resnet18"])
def test_earlier_checkpoints_name_the_place_of_a_part_that_is_not_there(name: str) -> None:
    with torch.device("meta"):
        create_model(name, 3, place="before_conv1")
        with pytest.raises(ValueError, match="place"):
            create_model(name, 3, place="after_conv1")
