"""The layout of the package: which wing may import which, and what loads without PyTorch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import smnet

SOURCE = Path(smnet.__file__).parent

GROUND = ("errors", "files", "system", "console", "measure")
"""Small modules that every wing may use; ``models`` uses none of them."""

WINGS = {
    # wing: (what it is for, the wings it may import)
    "models": ("networks, in PyTorch alone", ""),
    "data": ("annotations and videos, turned into views", ""),
    "recipes": ("the settings of a training run", "models"),
    "distributed": ("several processes as one", ""),
    "checkpoints": ("one file per trained network", "models data"),
    "inference": ("the program that scores a clip", "models data distributed checkpoints"),
    "evaluation": (
        "accuracy on a data set",
        "models data recipes distributed checkpoints inference",
    ),
    "training": (
        "the training loop",
        "models data recipes distributed checkpoints inference evaluation",
    ),
    "export": (
        "files for other runtimes",
        "models data recipes checkpoints inference evaluation",
    ),
    "adapt": (
        "a network adapted to few clips",
        "models data recipes distributed checkpoints inference evaluation training",
    ),
    "report": ("tables, pages and pictures", "data checkpoints inference evaluation"),
    "corpus": (
        "many files, into tables that are resumed",
        "models data checkpoints inference",
    ),
    "embed": (
        "vectors of videos, and finding videos by them",
        "models data checkpoints inference corpus report",
    ),
    "timeline": (
        "when actions happen in long recordings",
        "models data checkpoints inference evaluation report corpus",
    ),
    "live": (
        "what happens now, in streams",
        "models data checkpoints inference evaluation timeline",
    ),
    "explain": (
        "why a network gives a score",
        "models data checkpoints inference report",
    ),
    "experiments": (
        "comparisons, studies, profiles, the demo",
        "models data recipes distributed checkpoints inference evaluation training report timeline",
    ),
    "serve": (
        "predictions over HTTP, and a page",
        "models data checkpoints inference live report corpus timeline",
    ),
    "web": (
        "a page that runs a network in the browser alone",
        "models data checkpoints inference export report live",
    ),
    "cli": (
        "the verbs",
        "models data recipes distributed checkpoints inference evaluation training export adapt"
        " live corpus embed report timeline explain experiments serve web",
    ),
    "__main__": ("python -m smnet", "cli"),
}

CAPABILITIES = {"adapt", "corpus", "embed", "explain", "live", "serve", "timeline", "web"}
"""Wings of one capability each, on inference and evaluation."""

DATA_ROOMS = {
    # room of data: (what it is for, the rooms it may import)
    "clips": ("a clip and a data set of clips", ""),
    "addresses": ("files at addresses, by fsspec", ""),
    "sampling": ("rules that choose frames", ""),
    "video": ("files and folders, read as exact frames", "clips"),
    "workers": ("processes and threads with time limits", ""),
    "synthetic": ("drawn data sets", "sampling"),
    "packed": ("packed sets: layout, storage, reading", "addresses clips video"),
    "open": ("the reader for a path", "clips video packed"),
    "annotations": ("annotation files, read as clips", "addresses clips video packed"),
    "loading": (
        "views, transforms, data set, loader, copies among clips",
        "clips sampling video workers packed open annotations",
    ),
    "checks": (
        "what is wrong with a data set, and its statistics",
        "clips video workers packed open annotations",
    ),
    "packing": ("writing packed sets", "clips video workers packed open annotations"),
    "joining": ("clips joined into one film", "clips video open annotations"),
}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    paths = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = ["smnet", *path.relative_to(SOURCE).with_suffix("").parts]
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


MODULES = modules()


def imports(name: str) -> Iterator[str]:
    """The modules of the package that a module imports, also inside of functions."""
    path = MODULES[name]
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            # "from smnet.data import motion" imports the module, not only the package
            below = [f"{base}.{alias.name}" for alias in node.names]
            targets = [b if b in MODULES else base for b in below]
        else:
            continue
        yield from (t for t in targets if t.startswith("smnet."))


def part(name: str, position: int) -> str:
    """The wing (1) or the room (2) of a module; empty for a package itself."""
    return ".".join(name.split(".")[position : position + 1])


def forbidden(table: dict[str, tuple[str, str]], position: int, within: str = "") -> list[str]:
    """The imports from one row of a table to another that the table does not allow."""
    found = []
    for name in (n for n in MODULES if n.startswith(f"smnet{within}.")):
        here = part(name, position)
        for target in (t for t in imports(name) if t.startswith(f"smnet{within}.")):
            there = part(target, position)
            free = there in GROUND and here != "models" and not within
            if here in table and there not in (here, "") and not free:
                allowed = table[here][1].split()
                if there not in allowed:
                    found.append(f"{name} imports {target}")
    return found


def ordered(table: dict[str, tuple[str, str]]) -> bool:
    """Every row uses only rows above it, so that no circle can arise."""
    rows = list(table)
    return all(set(table[row][1].split()) <= set(rows[:i]) for i, row in enumerate(rows))


def test_the_tables_name_every_wing_and_room_in_order() -> None:
    assert {*GROUND, *WINGS} == {part(name, 1) for name in MODULES} - {""}
    rooms = {part(name, 2) for name in MODULES if part(name, 1) == "data"} - {""}
    assert set(DATA_ROOMS) == rooms
    assert ordered(WINGS)
    assert ordered(DATA_ROOMS)


def test_imports_are_seen() -> None:
    assert "smnet.data.sampling.rules" in set(imports("smnet.data.loading.views"))
    assert "smnet.models.base" in set(imports("smnet.models.registry"))  # a relative import


def test_wings_import_what_the_table_allows() -> None:
    assert forbidden(WINGS, 1) == []
    ground = [f"{n} imports {t}" for n in MODULES for t in imports(n) if part(n, 1) in GROUND]
    assert [line for line in ground if part(line.split()[2], 1) not in GROUND] == []


def test_rooms_of_data_import_what_the_table_allows() -> None:
    assert forbidden(DATA_ROOMS, 2, ".data") == []


def test_the_root_of_the_package_is_small() -> None:
    assert len(list(SOURCE.glob("*.py"))) <= 8
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert len(packages - CAPABILITIES) <= 11


def test_no_import_runs_in_a_circle() -> None:
    finished: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in finished:
            return
        for target in set(imports(name)) - {name}:
            # A package loads before its modules: that is the order, not a circle.
            if target in MODULES and not name.startswith(f"{target}."):
                visit(target, (*path, name))
        finished.add(name)

    for name in set(MODULES) - {"smnet"}:
        visit(name, ())


def test_modules_do_not_name_the_machine_they_were_written_on() -> None:
    for name, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        assert not any(place in text for place in ("/work/", "/home/", "../shared")), name


HEAVY = ("torch", "pandas", "matplotlib", "pyarrow", "tensorboard")
HELP = """
import smnet, sys
dir(smnet)
from smnet.cli import main as cli
sys.argv = ["smnet", "--help"]
try:
    cli.main()
except SystemExit as end:
    assert not end.code
"""


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(HELP, id="import smnet, and the help"),
        pytest.param(
            "import smnet.data.annotations.read, smnet.data.sampling.rules, smnet.data.open,"
            " smnet.data.checks.check, smnet.data.checks.stats, smnet.data.packing.pack",
            id="annotations, video, check, stats, pack",
        ),
        pytest.param(
            "import smnet.inference.recognizer, smnet.inference.exported", id="exported files"
        ),
    ],
)
def test_loads_without_heavy_libraries(code: str) -> None:
    tail = f"import sys\nprint('\\n', *[m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{tail}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1].split() == []


def test_models_load_without_the_compiler_of_torch() -> None:
    names = "sys, smnet.models.fast, smnet.models.registry"
    code = f"import {names}; print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
