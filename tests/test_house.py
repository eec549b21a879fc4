"""The house: no import runs upwards, none in a circle, and the front door is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import smnet

SOURCE = Path(smnet.__file__).parent

# The floors of the house, the ground first. A package uses its own floor and those below it.
FLOORS = (
    ("errors", "files", "system", "console", "recipes", "distributed", "models"),
    ("data",),
    ("checkpoints",),
    ("inference",),
    ("evaluation",),
    ("training",),
    ("export",),
    ("report",),
    ("experiments",),
    ("cli", "__main__"),
)


def floor(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = ["smnet", *path.relative_to(SOURCE).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def room(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def imports(name: str, outermost: bool = False) -> Iterator[str]:
    """The modules of the package that a module imports: anywhere in it, or when it is loaded."""
    path = MODULES[name]
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if outermost else ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            # "from smnet.data import motion" means the module, not the package
            below = [f"{base}.{alias.name}" for alias in node.names]
            targets = [b if b in MODULES else base for b in below]
        else:
            continue
        yield from (t for t in targets if t == "smnet" or t.startswith("smnet."))


def test_there_is_something_to_look_at() -> None:
    assert {"smnet.training.loop", "smnet.models.smnet", "smnet.data.open"} <= set(MODULES)
    assert "smnet.data.sampling.rules" in set(imports("smnet.data.loading.views"))
    assert "smnet.models.base" in set(imports("smnet.models.registry"))  # a relative one
    assert {r for rooms in FLOORS for r in rooms} == {room(name) for name in MODULES} - {""}


def test_the_root_of_the_package_is_small() -> None:
    assert len(list(SOURCE.glob("*.py"))) <= 8
    assert len(list(SOURCE.glob("*/__init__.py"))) <= 11


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_import_runs_upwards(name: str) -> None:
    if name == "smnet":
        return  # its names are loaded on first use
    for target in imports(name):
        if target == "smnet":
            continue  # the version
        if room(target) != room(name):
            assert floor(room(target)) <= floor(room(name)), f"{name} imports {target}"


@pytest.mark.parametrize("name", sorted(n for n in MODULES if room(n) == "models"))
def test_models_import_nothing_else_of_the_package(name: str) -> None:
    assert [t for t in imports(name) if room(t) != "models"] == []


@pytest.mark.parametrize("name", sorted(n for n in MODULES if room(n) == "data"))
def test_data_knows_no_models_and_nothing_above(name: str) -> None:
    allowed = {"data", "errors", "files", "console", "system"}
    assert [t for t in imports(name) if room(t) not in allowed] == []


def test_no_import_runs_in_a_circle() -> None:
    state: dict[str, int] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if state.get(name) == 2:
            return
        assert state.get(name) != 1, " -> ".join([*path[path.index(name) :], name])
        state[name] = 1
        for target in set(imports(name)) - {name, "smnet"}:
            # A package loads before what is in it: that is the order, not a circle.
            if target in MODULES and not name.startswith(f"{target}."):
                visit(target, (*path, name))
        state[name] = 2

    for name in set(MODULES) - {"smnet"}:
        visit(name, ())


HEAVY = ("torch", "pandas", "matplotlib", "pyarrow", "tensorboard")


def loaded_after(code: str) -> set[str]:
    """What of HEAVY a fresh interpreter has loaded at the end of ``code``."""
    tell = f"import sys\nprint('\\n', *[m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{tell}"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_the_front_door_does_not_load_torch() -> None:
    code = """
import smnet, sys
dir(smnet)
from smnet.cli import main as cli
sys.argv = ["smnet", "--help"]
try:
    cli.main()
except SystemExit as end:
    assert not end.code
"""
    assert loaded_after(code) == set()


def test_reading_of_video_and_annotations_does_not_load_torch() -> None:
    code = "import smnet.data.annotations.read, smnet.data.sampling.rules, smnet.data.open"
    assert loaded_after(code) == set()


@pytest.mark.parametrize("name", sorted(MODULES))
def test_rooms_do_not_name_the_machine_they_were_built_on(name: str) -> None:
    text = MODULES[name].read_text(encoding="utf-8")
    assert "/work/" not in text
    assert "/home/" not in text
    assert "../shared" not in text
