"""The documents name only verbs, options, keys, files and Python names that exist."""

from __future__ import annotations

import dataclasses
import re
import shlex
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from smnet.cli.main import app
from smnet.models.registry import list_models, option_types
from smnet.recipes.recipe import Recipe
from tests.conftest import get_command

ROOT = Path(__file__).parents[1]
GENERATED = ROOT / "docs" / "cli.md"
"""Written by ``tools/site_source.py`` for the site only."""
PAGES = sorted(
    page for folder in (".", "docs", "benchmarks/results") for page in (ROOT / folder).glob("*.md")
)
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)

OPTIONS = {
    field.name
    for model in list_models()
    for declaration in option_types(model)
    for field in dataclasses.fields(declaration)
}
"""Options of all models."""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def prose(page: Path) -> str:
    """The text of a page without its code blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def commands(page: Path) -> list[list[str]]:
    """The words of every ``smnet`` command on a page, in code blocks and in inline code."""
    lines = []
    for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language in ("sh", "console", "bash"):
            joined = block.replace("\\\n", " ")
            lines += [line.removeprefix("$ ") for line in joined.splitlines()]
    lines += re.findall(r"`(smnet [^`]+)`", prose(page))
    words = [shlex.split(line, comments=True) for line in lines if re.search(r"\bsmnet ", line)]
    found = []
    for line in words:
        program = [i for i, word in enumerate(line) if word.split("/")[-1] == "smnet"]
        if program and line[0] not in ("git", "pip", "cd"):
            found.append(line[program[0] + 1 :])
    return found


def find_command(words: list[str]) -> tuple[Any, list[str]]:
    """The command that ``words`` call, and the words after its name."""
    command: Any = get_command(app)
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        assert words[0] in command.commands, f"no verb {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


@each_page
def test_commands_have_verbs_and_options_that_exist(page: Path) -> None:
    for words in commands(page):
        command, rest = find_command(words)
        options = {flag for parameter in command.params for flag in parameter.opts}
        options |= {"-h", "--help", "--install-completion", "--show-completion"}
        for word in rest:
            if word in ("|", ">"):
                break
            if word.startswith("-") and word != "-":
                assert word.split("=")[0] in options, f"smnet {' '.join(words)}: no option {word}"
                continue
            options_of_models = re.findall(r":(\w+)=", word)
            if "=" in word and ":" not in word:
                key, _, option = word.partition("=")[0].partition(".")
                assert key in Recipe.model_fields, f"smnet {' '.join(words)}: no key {key}"
                options_of_models += [option] if option else []
            for name in options_of_models:
                assert name in OPTIONS, f"smnet {' '.join(words)}: no option {name}"


@each_page
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, heading = target.partition("#")
        file = page.parent / path if path else page
        if file == GENERATED:
            continue
        assert file.exists(), f"{page.name}: no file {target}"
        if heading:
            titles = re.findall(r"^#+ (.+)$", prose(file), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}
            assert heading in anchors, f"{page.name}: no heading {target}"


@each_page
def test_python_names_exist(page: Path) -> None:
    for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
        module, _, attribute = name.rpartition(".")
        assert hasattr(import_module(module), attribute), name


def test_every_page_is_in_the_site() -> None:
    def files(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        values = entry.values() if isinstance(entry, dict) else entry
        return [file for value in values for file in files(value)]

    site = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    listed = set(files(site["project"]["nav"])) - {GENERATED.name}
    assert {page.name for page in PAGES if page.parent == ROOT / "docs"} <= listed


def test_contributing_names_every_package() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    packages = [path.parent.name for path in ROOT.glob("src/smnet/*/__init__.py")]
    assert [name for name in packages if f"`{name}" not in text] == []


def test_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
