"""An adapted network that several tests look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from smnet.adapt.run import Adapted, adapt
from smnet.adapt.start import start_recipe
from tests.conftest import write_clips


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """15 training and 6 validation clips of 3 classes. Tests must not change it."""
    return write_clips(tmp_path_factory.mktemp("few"), {"train": 5, "val": 2})


@pytest.fixture(scope="session")
def adapted(few: Path, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Adapted:
    """The probe on the tiny network, without fine-tuning."""
    recipe = start_recipe(str(run), ["workers=0", "device=cpu"], {"data": str(few)})
    found = adapt(recipe, tmp_path_factory.mktemp("adapted") / "run", minutes=0)
    assert found is not None
    return found
