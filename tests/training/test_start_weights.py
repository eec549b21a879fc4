"""What a new model starts from: nothing, an image network, or a checkpoint of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from smnet.checkpoints.file import Checkpoint, save_checkpoint
from smnet.errors import UserError
from smnet.models import VideoModel, create_model, load_weights
from smnet.training.start_weights import start_from


def model(classes: tuple[str, ...] = ("a", "b", "c"), **options: Any) -> VideoModel:
    made = create_model("smnet_resnet18", len(classes), 2, **{"width": 8, **options})
    made.spec = replace(made.spec, class_names=classes)
    return made


def state(of: VideoModel) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in of.state_dict().items()}


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Path, VideoModel]:
    torch.manual_seed(1)
    made = model()
    with torch.no_grad():
        for tensor in made.state_dict().values():
            tensor += torch.rand(tensor.shape).to(tensor.dtype) if tensor.dim() else 3
    save_checkpoint(tmp_path / "best.safetensors", Checkpoint(made.spec, made.state_dict()))
    return tmp_path / "best.safetensors", made


def test_none_leaves_the_model_as_it_is() -> None:
    new = model()
    before = state(new)
    assert start_from(new, "none") == "weights: random"
    assert all(torch.equal(v, before[k]) for k, v in new.state_dict().items())


def test_frozen_norms_want_the_temporal_parts_too(trained: tuple[Path, VideoModel]) -> None:
    """Under statistics of the trunk alone, SMNet's blocks would grow threefold, each."""
    with pytest.raises(UserError, match=r"smnet_resnet18 are new.*freeze_norm"):
        start_from(model(), "none", needs_temporal=True)
    start_from(model(), str(trained[0]), needs_temporal=True)


@pytest.mark.parametrize("as_folder", [False, True])
def test_the_same_classes_take_the_classifier_too(
    trained: tuple[Path, VideoModel], as_folder: bool
) -> None:
    file, old = trained
    new = model()
    note = start_from(new, str(file.parent if as_folder else file))
    assert "with its classifier" in note
    assert all(torch.equal(v, old.state_dict()[k]) for k, v in new.state_dict().items())


def with_head(*sizes: int) -> VideoModel:
    """The same trunk and classes under a classifier of other tensors."""
    made = model()
    made.fc = nn.Sequential(*(nn.Linear(*pair) for pair in pairwise(sizes)))
    return made


@pytest.mark.parametrize("theirs", [(), (64, 3), (64, 8, 3)])
@pytest.mark.parametrize("ours", [(), (64, 3), (64, 8, 3)])
def test_a_classifier_of_other_tensors_starts_anew(
    theirs: tuple[int, ...], ours: tuple[int, ...], tmp_path: Path
) -> None:
    """The same classes: it is taken whole, or not at all."""
    old, new = (with_head(*sizes) if sizes else model() for sizes in (theirs, ours))
    before = state(new)
    note = start_from(new, checkpoint_of(old, tmp_path))
    assert note.endswith("with its classifier" if theirs == ours else "the classifier is new")
    for key, value in new.state_dict().items():
        taken = theirs == ours or not key.startswith("fc.")
        assert torch.equal(value, old.state_dict()[key] if taken else before[key]), key


@pytest.mark.parametrize("classes", [("a", "b"), ("c", "b", "a"), ("a", "b", "d")])
def test_other_classes_start_the_classifier_anew(
    trained: tuple[Path, VideoModel], classes: tuple[str, ...]
) -> None:
    file, old = trained
    new = model(classes)
    head = {k: v for k, v in state(new).items() if k.startswith("fc.")}
    note = start_from(new, str(file))
    assert "the classifier is new" in note
    for key, value in new.state_dict().items():
        assert torch.equal(value, head[key] if key in head else old.state_dict()[key]), key


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: model(width=16), "differs in .*conv1.weight"),
        (lambda: create_model("tsn_resnet18", 3, 2, width=8), "also has .*temporal"),
        (lambda: create_model("smnet_resnet34", 3, 2, width=8), "lacks layer"),
        (lambda: model(stages=[3]), "also has"),
    ],
)
def test_a_checkpoint_that_does_not_fit_changes_nothing(
    trained: tuple[Path, VideoModel], make: Callable[[], VideoModel], says: str
) -> None:
    new = make()
    before = state(new)
    with pytest.raises(UserError, match=f"weights=.*does not fit.*{says}"):
        start_from(new, str(trained[0]))
    assert all(torch.equal(v, before[k]) for k, v in new.state_dict().items())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_an_image_network_starts_the_trunk(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(2)
    plain = create_model("tsn_resnet18", 1000, 1, width=8).state_dict()  # torchvision's names
    image = {k: torch.rand(v.shape) for k, v in plain.items() if v.is_floating_point()}
    file = tmp_path / f"resnet18{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(image, file)
    new = model()
    before = state(new)
    note = start_from(new, str(file))
    assert note == f"weights: the trunk from {file}; the rest is new"
    assert torch.equal(new.state_dict()["conv1.weight"], image["conv1.weight"])
    for key, value in new.state_dict().items():
        if key.startswith("fc.") or ".temporal." in key:
            assert torch.equal(value, before[key]), key


def checkpoint_of(made: VideoModel, folder: Path, **spec: Any) -> str:
    """A file of a network with drawn weights."""
    for tensor in made.state_dict().values():
        tensor.copy_(torch.rand(tensor.shape))
    save_checkpoint(
        folder / "c.safetensors", Checkpoint(replace(made.spec, **spec), made.state_dict())
    )
    return str(folder / "c.safetensors")


@pytest.mark.parametrize("theirs", ["tsn_resnet50", "tsm_resnet50"])
@pytest.mark.parametrize("ours", ["smnet_resnet50", "i3d_resnet50", "rgbdiff_resnet50"])
def test_a_checkpoint_without_temporal_parts_starts_the_trunk_of_any_family(
    theirs: str, ours: str, tmp_path: Path
) -> None:
    source = create_model(theirs, 3, 2, width=8)
    file = checkpoint_of(source, tmp_path)
    new, same = (create_model(ours, 3, 2, width=8) for _ in range(2))
    same.load_state_dict(new.state_dict())
    note = start_from(new, file)
    assert note == f"weights: the trunk of {theirs} from {file}; the rest is new"
    load_weights(same, source.state_dict())
    assert all(torch.equal(v, same.state_dict()[k]) for k, v in new.state_dict().items())
    assert not torch.equal(new.fc.weight, source.fc.weight)


def test_the_trunk_of_another_depth_does_not_fit(tmp_path: Path) -> None:
    file = checkpoint_of(create_model("tsn_resnet34", 3, 2, width=8), tmp_path)
    with pytest.raises(UserError, match="not a trunk of smnet_resnet18: it also has layer"):
        start_from(model(), file)


def test_frames_are_normalised_as_the_weights_want_them(tmp_path: Path) -> None:
    half, quarter = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    file = checkpoint_of(
        create_model("tsn_resnet18", 3, 2, width=8), tmp_path, mean=half, std=quarter
    )
    for name in ("tsn_resnet18", "smnet_resnet18"):
        new = create_model(name, 3, 2, width=8)
        start_from(new, file)
        assert (new.spec.mean, new.spec.std) == (half, quarter)
    differences = create_model("rgbdiff_resnet18", 3, 2, width=8)
    before = differences.spec
    start_from(differences, file)
    assert differences.spec == before


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "an empty file"), (b"nothing of the kind", "not a file of weights")],
)
def test_a_file_that_holds_no_weights(tmp_path: Path, content: bytes, says: str) -> None:
    for name in ("x.pth", "x.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"weights=.*{name}: .*{says}"):
            start_from(model(), str(tmp_path / name))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"weights=.*nowhere\.pth: no such file"):
        start_from(model(), str(tmp_path / "nowhere.pth"))
    with pytest.raises(UserError, match=r"best\.safetensors: no such checkpoint"):
        start_from(model(), str(tmp_path))
