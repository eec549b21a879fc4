"""The learning rate's rules at literal epochs, and the parameter groups of the family."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from smnet.models import VideoModel, create_model
from smnet.recipes.recipe import Recipe
from smnet.training.optim import (
    get_lr,
    lr_factor,
    make_optimizer,
    parameter_groups,
    scaled_lr,
    set_lr,
)
from tests.families import ONE_OF_EACH


@pytest.mark.parametrize(
    ("optimizer", "clips", "lr", "says"),
    [
        ("sgd", 64, 0.01, "lr 0.01 = 0.01 x 64/64 (sgd, clips per step)"),
        ("sgd", 16, 0.0025, "lr 0.0025 = 0.01 x 16/64 (sgd, clips per step)"),
        ("sgd", 256, 0.04, "lr 0.04 = 0.01 x 256/64 (sgd, clips per step)"),
        ("adamw", 64, 0.01, "lr 0.01 = 0.01 x sqrt(64/64) (adamw, clips per step)"),
        ("adamw", 16, 0.005, "lr 0.005 = 0.01 x sqrt(16/64) (adamw, clips per step)"),
        ("adamw", 256, 0.02, "lr 0.02 = 0.01 x sqrt(256/64) (adamw, clips per step)"),
    ],
)
def test_the_rate_follows_the_batch(optimizer: str, clips: int, lr: float, says: str) -> None:
    rate, words = scaled_lr(Recipe(optimizer=optimizer, lr=0.01, lr_batch=64), clips)
    assert rate == pytest.approx(lr)
    assert words == says


COSINE = Recipe(epochs=12, warmup=2)
STEP = Recipe(epochs=50, warmup=0, schedule="step", milestones=(20, 40))
CONSTANT = Recipe(epochs=10, warmup=1, schedule="constant")


@pytest.mark.parametrize(
    ("recipe", "epoch", "factor"),
    [
        (COSINE, 0, 0.1),
        (COSINE, 0.5, 0.1 + 0.9 / 4),
        (COSINE, 1, 0.55),
        (COSINE, 2, 1.0),
        (COSINE, 2 + 10 / 3, 0.75),
        (COSINE, 7, 0.5),
        (COSINE, 2 + 20 / 3, 0.25),
        (COSINE, 12, 0.0),
        (COSINE, 13, 0.0),
        (STEP, 0, 1.0),
        (STEP, 19.99, 1.0),
        (STEP, 20, 0.1),
        (STEP, 39.9, 0.1),
        (STEP, 40, 0.01),
        (STEP, 49.9, 0.01),
        (CONSTANT, 0, 0.1),
        (CONSTANT, 1, 1.0),
        (CONSTANT, 9.9, 1.0),
    ],
)
def test_schedules_at_literal_epochs(recipe: Recipe, epoch: float, factor: float) -> None:
    assert lr_factor(recipe, epoch) == pytest.approx(factor, abs=1e-12)


def test_the_cosine_only_falls_after_the_warmup() -> None:
    rates = [lr_factor(COSINE, 2 + k / 100) for k in range(1001)]
    assert all(a > b for a, b in pairwise(rates))


@pytest.fixture(params=[*ONE_OF_EACH, "tsm_mobilenetv2"])
def model(request: pytest.FixtureRequest) -> VideoModel:
    name = request.param
    options = {} if "mobilenet" in name else {"width": 8}
    return create_model(name, 3, 2, **options)


def test_every_parameter_exactly_once(model: VideoModel) -> None:
    groups = parameter_groups(model, Recipe())
    inside = [id(p) for group in groups for p in group["params"]]
    assert len(inside) == len(set(inside))
    assert set(inside) == {id(p) for p in model.parameters()}


def test_each_has_the_rate_and_decay_of_its_role(model: VideoModel) -> None:
    recipe = Recipe(head_lr=5, temporal_lr=3, weight_decay=0.25)
    given = {
        id(p): (group["scale"], group["weight_decay"])
        for group in parameter_groups(model, recipe)
        for p in group["params"]
    }
    owners = {
        f"{path}.{name}" if path else name: module
        for path, module in model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
    }
    seen = set()
    for name, parameter in model.named_parameters():
        owner = owners[name]
        scale, decay = given[id(parameter)]
        if name.startswith("fc."):  # whatever its class
            bias = name.endswith(".bias")
            expected, role = ((10.0, 0.0), "head bias") if bias else ((5.0, 0.25), "head")
        else:
            base = 1.0 if model.is_trunk_key(name) else 3.0
            convolution = isinstance(owner, nn.Conv1d | nn.Conv2d | nn.Conv3d)
            twice = 2.0 if convolution and name.endswith(".bias") else 1.0
            decays = parameter.dim() > 1 and not name.endswith(".bias")
            expected = (base * twice, 0.25 if decays else 0.0)
            role = "trunk" if base == 1 else "temporal"
        assert (scale, decay) == expected, name
        seen.add(role)
    assert {"head", "head bias", "trunk"} <= seen


def test_temporal_parts_are_found_where_there_are_some() -> None:
    model = create_model("smnet_resnet18", 3, 2, width=8)
    groups = parameter_groups(model, Recipe(temporal_lr=7))
    assert any(group["scale"] == 7 for group in groups)
    plain = create_model("tsn_resnet18", 3, 2, width=8)
    assert not any(group["scale"] == 7 for group in parameter_groups(plain, Recipe(temporal_lr=7)))


def test_decay_goes_by_dimensions_but_for_biases() -> None:
    model = create_model("tsn_resnet18", 3, 2, width=8)
    model.layer1[0].temporal = part = nn.Module()
    part.scale, part.weight, part.bias = (
        nn.Parameter(torch.ones(shape)) for shape in [(4,), (4, 1, 1), (4, 1, 1)]
    )
    decay = {
        id(p): group["weight_decay"]
        for group in parameter_groups(model, Recipe(weight_decay=0.25))
        for p in group["params"]
    }
    assert [decay[id(p)] for p in (part.scale, part.weight, part.bias)] == [0, 0.25, 0]


def test_frozen_parameters_are_left_out() -> None:
    model = create_model("tsn_resnet18", 3, 2, width=8)
    model.conv1.weight.requires_grad_(False)
    inside = {id(p) for group in parameter_groups(model, Recipe()) for p in group["params"]}
    assert id(model.conv1.weight) not in inside
    assert len(inside) == sum(1 for _ in model.parameters()) - 1


def test_the_base_rate_is_kept_on_disk() -> None:
    recipe = Recipe(head_lr=3)
    one, other = (make_optimizer(create_model("tsn_resnet18", 3, width=8), recipe) for _ in "ab")
    set_lr(one, 0.1 / 3)
    other.load_state_dict(one.state_dict())
    assert get_lr(one) == get_lr(other) == 0.1 / 3


def test_set_lr_keeps_the_multiples() -> None:
    model = create_model("tsn_resnet18", 3, 2, width=8)
    optimizer = make_optimizer(model, Recipe(head_lr=5))
    set_lr(optimizer, 0.01)
    assert sorted({round(group["lr"], 12) for group in optimizer.param_groups}) == [
        0.01,
        0.05,
        0.1,
    ]


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_the_optimiser_learns_by_its_groups(name: str, kind: type) -> None:
    model = create_model("tsn_resnet18", 3, 2, width=8)
    recipe = Recipe(optimizer=name, momentum=0.8, weight_decay=0.0)
    optimizer = make_optimizer(model, recipe)
    assert isinstance(optimizer, kind)
    if name == "sgd":
        assert {group["momentum"] for group in optimizer.param_groups} == {0.8}
    before = model.fc.weight.detach().clone()
    model.fc.weight.grad = torch.ones_like(before)
    set_lr(optimizer, 0.01)
    optimizer.step()
    # the first step of both is lr times 5, the rate of the head, against the gradient
    moved = (before - model.fc.weight).detach()
    assert torch.allclose(moved, torch.full_like(moved, 0.05), rtol=1e-4)
    assert math.isclose(moved.mean().item(), 0.05, rel_tol=1e-4)


def test_rates_fall_by_stage() -> None:
    with torch.device("meta"):
        model = create_model("smnet_resnet18", 3, 2, width=8)
    names = {id(p): name for name, p in model.named_parameters()}
    recipe = Recipe(layer_decay=0.5, head_lr=5.0, temporal_lr=2.0)
    scales = {
        names[id(p)]: group["scale"]
        for group in parameter_groups(model, recipe)
        for p in group["params"]
    }
    assert scales["fc.weight"] == 5.0
    assert scales["layer4.0.conv1.weight"] == 0.5
    assert scales["layer1.0.conv1.weight"] == 0.5**4
    assert scales["conv1.weight"] == 0.5**5
    assert scales["layer4.0.temporal.se.temporal.weight"] == 2.0 * 0.5
