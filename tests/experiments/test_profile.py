"""What models cost: counts against other counts, memory by hand, and the verb."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smnet.errors import UserError
from smnet.experiments.profile import (
    Part,
    Profile,
    ProfileTable,
    parts_of,
    profile,
    saved_for_backward,
    time_models,
)
from smnet.experiments.profile_report import Accuracy, draw, print_profiles, read_results, time_of
from smnet.measure import Ratio
from smnet.models import ModelSpec, VideoModel, create_model, multiply_adds, parameter_count
from smnet.models.base import is_temporal
from smnet.models.registry import FAMILIES, Family
from smnet.models.resnet import ResNet, ResNetOptions
from smnet.models.trunks import Trunk
from tests.families import ONE_OF_EACH

CPU = torch.device("cpu")


def small(name: str, **options: Any) -> VideoModel:
    return create_model(name, 5, 4, width=8, **options)


@pytest.mark.usefixtures("few_blocks")
@pytest.mark.parametrize("name", [*ONE_OF_EACH, "smnet_resnet50", "smnet_mobilenetv2"])
def test_the_stages_are_all_of_the_model(name: str) -> None:
    model = small(name)
    stages, temporal = parts_of(model, 32)
    assert sum(part.macs for part in stages) == multiply_adds(model, size=32)
    assert sum(part.parameters for part in stages) == parameter_count(model)
    assert stages[-1].name == "head"
    assert len({part.name for part in stages}) == len(stages)
    if "resnet" in name:
        names = [part.name for part in stages]
        usual = ["stem", "res2", "res3", "res4", "res5", "head"]
        assert [n for n in names if n in usual] == usual
    assert [part.name for part in temporal] == [
        n for n, _ in model.named_modules() if n.endswith("temporal") and n.count("temporal") == 1
    ]
    # what the temporal modules learn is what the state says
    said = sum(p.numel() for n, p in model.named_parameters() if is_temporal(n))
    assert sum(part.parameters for part in temporal) == said


def test_every_block_has_its_temporal_module() -> None:
    _, temporal = parts_of(small("smnet_resnet18"), 32)
    assert [part.name for part in temporal] == [
        f"layer{stage}.{block}.temporal" for stage in (1, 2, 3, 4) for block in (0, 1)
    ]
    assert all(part.parameters > 0 and part.macs > 0 for part in temporal)
    _, shifts = parts_of(small("tsm_resnet18"), 32)
    assert len(shifts) == 8
    assert {(part.parameters, part.macs) for part in shifts} == {(0, 0)}
    _, some = parts_of(small("smnet_resnet18", stages=(5,)), 32)
    assert [part.name for part in some] == ["layer4.0.temporal", "layer4.1.temporal"]


def test_what_a_temporal_module_adds_is_the_difference_to_tsn() -> None:
    """smnet before conv1 leaves the trunk as it is."""
    with_it, without = small("smnet_resnet18"), small("tsn_resnet18")
    _, temporal = parts_of(with_it, 32)
    assert sum(p.macs for p in temporal) == multiply_adds(with_it, size=32) - multiply_adds(
        without, size=32
    )


class Scaled(VideoModel):
    """Multiplies its clip by a weight: autograd keeps the clip, and the input of fc."""

    def __init__(self) -> None:
        super().__init__(ModelSpec("scaled", 5, 4), 3, dropout=0.0)
        self.scale = nn.Parameter(torch.ones(1000)[:1])
        self.register_buffer("shift", torch.ones(1))

    def forward_features(self, clips: Tensor) -> Tensor:
        return clips * self.scale


def test_saved_memory_by_hand() -> None:
    clip = 4 * 3 * 16 * 16 * 4
    pooled = 4 * 3 * 4
    assert saved_for_backward(Scaled(), 16, CPU) == clip + pooled


class Twice(Scaled):
    """Keeps the same clip for two products, and a view of it for a third."""

    def forward_features(self, clips: Tensor) -> Tensor:
        return clips * self.scale + clips * self.scale.square() + clips[:] * self.scale


def test_a_storage_counts_once() -> None:
    assert saved_for_backward(Twice(), 16, CPU) == saved_for_backward(Scaled(), 16, CPU)


def test_saved_memory_grows_with_the_clip_not_with_the_classes() -> None:
    model = small("tsn_resnet18")
    one, four = (saved_for_backward(model, size, CPU) for size in (32, 64))
    assert 3.5 < four / one < 4.1
    other = create_model("tsn_resnet18", 5000, 4, width=8)
    assert saved_for_backward(other, 32, CPU) == one


def test_the_models_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    models = [small("tsn_resnet18"), small("smnet_resnet18")]
    for model, name in zip(models, "ab", strict=True):

        def note(module: nn.Module, args: Any, name: str = name) -> None:
            called.append(name + ("t" if module.training else "e"))

        model.register_forward_pre_hook(note)
    before = [model.fc.weight.clone() for model in models]
    timings = time_models(models, 32, 2, CPU, rounds=2)
    assert called == ["ae", "at", "be", "bt"] * 3
    assert [len(taken) for taken in timings.seconds] == [2] * 4
    assert not torch.equal(before[0], models[0].fc.weight)  # a step was made


def test_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    found = profile(["smnet_resnet18"], segments=2, size=32, options={"width": 8}, rounds=1)
    assert [p.model for p in found.profiles] == ["smnet_resnet18"]
    assert found.reference.model == "tsn_resnet18"
    assert found.reference.parameters == parameter_count(create_model("tsn_resnet18", 174, width=8))
    named = profile(
        ["tsm_resnet18", "tsn_resnet18"], segments=2, size=32, options={"width": 8}, rounds=1
    )
    assert named.reference is named.profiles[1]
    narrow = profile(["tsm_resnet18:width=8:shift_div=4"], segments=2, size=32, rounds=1)
    assert narrow.reference.model == "tsn_resnet18:width=8"
    assert narrow.reference.parameters == found.reference.parameters
    both = ["tsm_resnet18:width=8", "tsn_resnet18:width=16", "tsn_resnet18"]
    own_options = profile(both, segments=2, size=32, rounds=1)
    assert own_options.reference is own_options.profiles[1]

    def own(spec: ModelSpec, trunk: Trunk, options: ResNetOptions) -> VideoModel:
        return ResNet(spec, 18, options)

    family = Family(own, ResNetOptions, "on a trunk that TSN is not on", trunks=("trunk",))
    monkeypatch.setitem(FAMILIES, "own", family)
    alone = profile(["own_trunk"], segments=2, size=32, options={"width": 8}, rounds=1)
    assert alone.reference is alone.profiles[0]
    values = alone.to_dict()
    assert (values["batch"], values["segments"], values["size"]) == (1, 2, 32)
    assert values["models"][0]["forward_ratio"] == 1
    json.dumps(values)


@pytest.mark.parametrize(
    ("names", "keys", "says"),
    [
        (["smnet_resnet19"], {}, "^no model is called 'smnet_resnet19'"),
        (["smnet_resnet18:groups=3"], {}, "^smnet_resnet18:groups=3: groups must divide"),
        (["tsn_resnet18"], {"options": {"groups": 1}}, "has no option 'groups'"),
        (["tsn_resnet18"] * 2, {}, "given twice"),
        (["tsn_resnet18"], {"device": "gpu"}, "no device is called 'gpu'"),
    ],
)
def test_mistakes(names: list[str], keys: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        profile(names, segments=2, size=32, rounds=1, **keys)
    assert "\n" not in str(caught.value)


# --- For people.


def made_up() -> ProfileTable:
    parts = [Part("stem", 10, 100), Part("res2", 70, 700), Part("head", 20, 200)]
    temporal = [Part("layer1.0.temporal", 25, 50)]
    same = Ratio(1, 1, 1)
    one = Profile("tsn_resnet18", 100, 1000, 2_000_000, 0.01, 0.04, same, same, parts)
    ratios = (Ratio(1.5, 1.4, 1.6), Ratio(1.25, 1.2, 1.3))
    two = Profile("smnet_resnet18", 100, 1000, 3_000_000, 0.015, 0.05, *ratios, parts, temporal)
    return ProfileTable([one, two], one, 8, 224, 2, "cpu", "cpu", "the machine was busy")


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    found = made_up()
    assert found.profiles[1].share("parameters") == 0.25
    assert found.profiles[1].share("macs") == 0.05
    print_profiles(found)
    text = capsys.readouterr().out
    assert "the machine was busy" in text
    rows = [line.split() for line in text.splitlines()]
    assert next(r for r in rows if r[:1] == ["smnet_resnet18"])[-2:] == ["1.50", "1.25"]
    assert next(r for r in rows if r[:1] == ["res2"])[-1] == "70.0%"
    assert next(r for r in rows if r[:1] == ["temporal"])[-3:] == ["25.0%", "0.00", "5.0%"]
    assert next(r for r in rows if r[:1] == ["layer1.0.temporal"])[-1] == "5.0%"


def table(path: Path, **changes: Any) -> Path:
    row = {"label": "SMNet", "model": "smnet_resnet18", "mean": 0.8, "half_width": 0.02}
    rows = [{**row, "gmacs": 1.8, **changes}, {**row, "half_width": None, "gmacs": 2.0}]
    path.write_text(json.dumps({"rows": rows}))
    return path


def test_accuracy_over_cost(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = read_results([table(tmp_path / "table.json")], {"smnet_resnet18"})
    assert [(row.top1, row.half_width) for row in rows] == [(0.8, 0.02), (0.8, None)]
    draw(tmp_path / "cost.png", made_up(), rows)
    assert (tmp_path / "cost.png").read_bytes().startswith(b"\x89PNG")


def test_what_was_not_measured_is_not_drawn_over_time() -> None:
    found = made_up()
    plain = Accuracy("SMNet", "smnet_resnet18", 0.8, None, 1.8, {})
    other = replace(plain, label="groups", options={"groups": 1})
    assert time_of(plain, [plain, other], found) == pytest.approx(1.5)
    assert time_of(other, [plain, other], found) is None
    old = replace(plain, options=None)  # of a table that does not say
    assert time_of(old, [old, replace(old, model="tsn_resnet18")], found) == pytest.approx(1.5)
    assert time_of(old, [old, old], found) is None
    grouped = replace(
        found.profiles[1], model="smnet_resnet18:groups=1", forward_ratio=Ratio(3, 3, 3)
    )
    found.profiles.append(grouped)
    assert time_of(plain, [plain, other], found) == pytest.approx(1.5)
    assert time_of(other, [plain, other], found) == pytest.approx(3)


def test_results_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"of other models \(smnet_resnet18\)"):
        read_results([table(tmp_path / "a.json")], {"tsm_resnet18"})
    with pytest.raises(UserError, match=r"b\.json: not a table\.json of smnet compare"):
        read_results([table(tmp_path / "b.json", mean="high")], {"smnet_resnet18"})
    (tmp_path / "c.json").write_text("[1, 2]")
    with pytest.raises(UserError, match=r"c\.json: not a table"):
        read_results([tmp_path / "c.json"], {"smnet_resnet18"})
    with pytest.raises(UserError, match=r"d\.json: cannot be read"):
        read_results([tmp_path / "d.json"], {"smnet_resnet18"})


def test_models_with_options_of_their_own() -> None:
    names = ["smnet_resnet18", "smnet_resnet18:groups=1:width=16,tsn_resnet18"]
    found = profile(names, segments=2, size=32, options={"width": 8}, rounds=1)
    assert [p.model for p in found.profiles] == [names[0], *names[1].split(",")]
    assert found.reference is found.profiles[2]
    for one, options in zip(
        found.profiles[:2], ({"width": 8}, {"groups": 1, "width": 16}), strict=True
    ):
        model = create_model("smnet_resnet18", 174, 2, **options)
        assert one.parameters == parameter_count(model)
        assert one.macs == multiply_adds(model, size=32)


def test_the_verb(smnet: Callable[..., Any], tmp_path: Path) -> None:
    words = ["profile", "smnet_resnet18", "--size", 32, "--segments", 2, "--batch", 2]
    words += ["--options", "width=8", "--options", "groups=1", "--rounds", 1, "--device", "cpu"]
    done = smnet(*words, "--json")
    assert done.status == 0, done.err
    (model,) = json.loads(done.out)["models"]
    expected = create_model("smnet_resnet18", 174, 2, width=8, groups=1)
    assert model["parameters"] == parameter_count(expected)
    assert model["gmacs"] == pytest.approx(multiply_adds(expected, size=32) / 1e9)
    done = smnet(*words)
    assert done.status == 0, done.err
    assert "in units of tsn_resnet18" in done.out
    for more, says in (
        (["--plot", "x.png"], "--plot draws the accuracies of --results"),
        (["--plot", "x.txt", "--results", "t.json"], "x.txt: a picture is written as"),
        (["--options", "groups"], "write key=value"),
    ):
        done = smnet(*words, *more)
        assert (done.status, done.err.count("\n")) == (1, 1)
        assert says in done.err
    pytest.importorskip("matplotlib")
    done = smnet(*words, "--plot", tmp_path / "c.png", "--results", table(tmp_path / "table.json"))
    assert done.status == 0, done.err
    assert (tmp_path / "c.png").stat().st_size > 1000
