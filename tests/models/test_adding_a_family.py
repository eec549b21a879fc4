"""The blocks of docs/adding-a-family.md, run as they stand."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from smnet.checkpoints.file import load
from smnet.evaluation.evaluate import evaluate_checkpoints
from smnet.experiments import demo
from smnet.experiments.profile import parts_of
from smnet.models import accelerate, create_model, list_models, multiply_adds
from smnet.models import registry as registry_module
from smnet.models.resnet import ResNetOptions
from smnet.training.loop import train
from smnet.training.optim import parameter_groups
from smnet.training.start_weights import start_from
from tests.conftest import Called, tiny
from tests.experiments import test_profile
from tests.models import test_registry
from tests.training import test_optim

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-family.md"
NAME = "delta_resnet18"


def blocks() -> dict[str, str]:
    """The titled blocks of the page."""
    found = re.findall(r'```python title="([^"]+)"\n(.*?)```', PAGE.read_text("utf-8"), re.DOTALL)
    return dict(found)


def module(name: str, path: Path, text: str) -> ModuleType:
    """A module of ``text`` under a name inside the package, so that relative imports work."""
    path.write_text(text, "utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The family of the page, in the registry; a folder for its files."""
    folder = tmp_path_factory.mktemp("delta")
    page = blocks()
    made = module("smnet.models.delta", folder / "delta.py", page["src/smnet/models/delta.py"])
    assert page["src/smnet/models/registry.py"] == "from .delta import DeltaOptions, delta\n"
    names = {**vars(registry_module), "delta": made.delta, "DeltaOptions": made.DeltaOptions}
    entry = eval("{" + page["FAMILIES"] + "}", names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry_module.FAMILIES, *next(iter(entry.items())))
        yield folder
    del sys.modules["smnet.models.delta"]


def test_all_trunks(family: Path) -> None:
    assert len(list_models("delta_*")) == len(registry_module.TRUNKS)


@pytest.mark.parametrize("trunk", ["resnet18", "resnet50", "res2net50", "mobilenetv2"])
@pytest.mark.parametrize(
    "check",
    [
        test_registry.test_scores_and_features,
        test_registry.test_temporal_parts_keep_the_shape,
        test_registry.test_no_attribute_hides_a_method_of_its_module,
        test_registry.test_uncounted_products_are_declared,
        test_registry.test_every_option_is_documented_and_has_a_possible_default,
        test_registry.test_names_are_family_and_trunk,
        test_registry.test_every_parameter_learns,
        test_registry.test_specification_builds_the_model_again,
        test_registry.test_evaluation_is_deterministic_and_clips_are_independent,
        test_registry.test_image_weights_start_the_trunk,
        test_registry.test_a_clip_of_another_shape_is_refused,
    ],
)
def test_the_tests_of_every_model(family: Path, trunk: str, check: Callable[[str], None]) -> None:
    check(f"delta_{trunk}")


def test_its_own_tests_pass(family: Path) -> None:
    text = blocks()["tests/models/test_delta.py"]
    tests = module("tests.models.test_delta", family / "test_delta.py", text)
    del sys.modules["tests.models.test_delta"]
    for segments in (1, 2, 8):
        for training in (False, True):
            for layout in (torch.contiguous_format, torch.channels_last):
                tests.test_module_is_its_equation(segments, training, layout)
    tests.test_order_counts()


def test_it_is_counted_and_folded(family: Path) -> None:
    model, plain = (create_model(f"{name}_resnet18", 5, 4, width=8) for name in ("delta", "tsn"))
    before_conv1 = 4 * (8 * 64 * 2 + 8 * 64 + 16 * 16 + 16 * 16 + 32 * 4 + 32 * 4 + 64)
    assert multiply_adds(model, size=32) - multiply_adds(plain, size=32) == before_conv1
    clips = torch.randn(2, 4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(accelerate(model, "export")(clips), model.eval()(clips))


def test_its_first_run_draws_the_clips(
    family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smnet: Callable[..., Called]
) -> None:
    line = re.search(r"^smnet (train motion .*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert line is not None
    monkeypatch.setattr(demo, "DRAWN", (20, 10))
    monkeypatch.chdir(tmp_path)
    small = ["epochs=1", "warmup=0.5", "size=32", "options.width=8", "workers=0", "device=cpu"]
    ours = ["--out", "mine"]
    elsewhere = smnet(*line[1].split(), *small, *ours, "--data", "nowhere")
    assert "nowhere" in elsewhere.err
    assert list(tmp_path.iterdir()) == []
    called = smnet(*line[1].split(), *small, *ours)
    assert called.status == 0, called.err
    assert load(tmp_path / "mine" / "best.safetensors").spec.name == NAME
    assert len(list((tmp_path / "runs" / "motion" / "train").rglob("*.mp4"))) == 20


def test_it_trains_and_is_evaluated(
    family: Path, clips: Path, tmp_path: Path, smnet: Callable[..., Called]
) -> None:
    assert smnet("models", "delta_*").out.split()[0].startswith("delta_")
    recipe = tiny(clips, model=NAME, epochs=1, options={"width": 8, "place": "after_conv1"})
    assert train(recipe, tmp_path / "run").finished
    trained = load(tmp_path / "run" / "last.safetensors")
    assert trained.spec.name == NAME
    parts = [p for name, p in trained.named_parameters() if ".temporal." in name]
    assert all(p.any() for p in parts)  # they started at zero and have learned
    result = evaluate_checkpoints([str(tmp_path / "run")], str(clips), workers=0, device="cpu")
    assert result is not None
    assert result.scores.shape == (6, 3)


@pytest.fixture(scope="module")
def between(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The page's part between two stages, in the registry."""
    page = blocks()
    imports = "from .resnet import ResNet, ResNetOptions\n"
    family, part = page["src/smnet/models/delta.py"], page["a part between the stages"]
    text = family.replace("from .base", f"{imports}from .base", 1) + part
    path = tmp_path_factory.mktemp("between") / "between.py"
    made = module("smnet.models.between", path, text)
    options, about = ResNetOptions, "delta between the stages"
    entry = registry_module.Family(made.between, options, about, trunks=registry_module.RESNETS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry_module.FAMILIES, "between", entry)
        yield
    del sys.modules["smnet.models.between"]


@pytest.mark.parametrize(
    "check",
    [
        test_registry.test_scores_and_features,
        test_registry.test_every_parameter_learns,
        test_registry.test_specification_builds_the_model_again,
        test_registry.test_evaluation_is_deterministic_and_clips_are_independent,
        test_registry.test_image_weights_start_the_trunk,
        test_registry.test_uncounted_products_are_declared,
        test_profile.test_the_stages_are_all_of_the_model,
    ],
)
@pytest.mark.parametrize("trunk", ["resnet18", "resnet50"])
def test_a_part_between_the_stages(between: None, trunk: str, check: Callable[[str], None]) -> None:
    check(f"between_{trunk}")


@pytest.mark.parametrize("check", ["folding_changes_no_scores", "clips_of_one_segment"])
def test_a_part_between_the_stages_is_exported(between: None, check: str) -> None:
    from tests.export import test_export  # needs the extra

    getattr(test_export, f"test_{check}")("between_resnet18")


def test_a_part_between_the_stages_is_a_temporal_part(
    between: None, clips: Path, tmp_path: Path
) -> None:
    recipe = tiny(clips, model="between_resnet18", options={"width": 8}, temporal_lr=7.0)
    model = create_model("between_resnet18", 3, 4, width=8)
    (fast,) = (g for g in parameter_groups(model, recipe) if g["scale"] == 7)
    assert [p.shape for p in fast["params"]] == [(16, 1, 1)]
    assert train(tiny(clips, model="tsn_resnet18", epochs=1), tmp_path / "tsn").finished
    note = start_from(model, str(tmp_path / "tsn" / "last.safetensors"))
    assert note.startswith("weights: the trunk of tsn_resnet18")


@pytest.fixture(scope="module")
def headed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The page's family with another head, in the registry."""
    page = blocks()
    imports = page["src/smnet/models/delta.py"].partition("class Delta")[0]
    path = tmp_path_factory.mktemp("ends") / "ends.py"
    made = module("smnet.models.ends", path, imports + page["a head"])
    entry = registry_module.Family(made.ends, registry_module.Options, "first and last")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry_module.FAMILIES, "ends", entry)
        yield
    del sys.modules["smnet.models.ends"]


@pytest.mark.parametrize("trunk", ["resnet18", "resnet50", "res2net50", "mobilenetv2"])
@pytest.mark.parametrize(
    "check",
    [
        test_registry.test_scores_and_features,
        test_registry.test_every_parameter_learns,
        test_registry.test_specification_builds_the_model_again,
        test_registry.test_evaluation_is_deterministic_and_clips_are_independent,
        test_registry.test_image_weights_start_the_trunk,
    ],
)
def test_another_head(headed: None, trunk: str, check: Callable[[str], None]) -> None:
    check(f"ends_{trunk}")


def test_another_head_has_the_rates_of_a_head(headed: None) -> None:
    test_optim.test_each_has_the_rate_and_decay_of_its_role(create_model("ends_resnet18", 3, 4))


@pytest.mark.parametrize("check", ["folding_changes_no_scores", "clips_of_one_segment"])
def test_another_head_is_exported(headed: None, check: str) -> None:
    from tests.export import test_export  # needs the extra

    getattr(test_export, f"test_{check}")("ends_resnet18")


def test_another_head_is_the_head_everywhere(headed: None, clips: Path, tmp_path: Path) -> None:
    recipe = tiny(clips, model="ends_resnet18", epochs=1, options={"width": 8}, head_lr=5.0)
    assert train(recipe, tmp_path / "run").finished
    trained = load(tmp_path / "run" / "last.safetensors")
    stages, _ = parts_of(trained, 32)
    assert stages[-1].name == "head"
    assert stages[-1].parameters == 2 * 64 * 3 + 3
    groups = parameter_groups(trained, recipe)
    (fast,) = (g for g in groups if g["scale"] == 5)
    assert [p.shape for p in fast["params"]] == [(3, 128)]
    other = create_model("ends_resnet18", 5, 4, width=8)
    other.spec = replace(other.spec, class_names=tuple("abcde"))
    note = start_from(other, str(tmp_path / "run" / "last.safetensors"))
    assert "the classifier is new" in note
