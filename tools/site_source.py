"""Gather the pages of the documentation site in build/source: python tools/site_source.py.

They are the pages of ``docs/`` and ``benchmarks/results/``, and a reference of the command line,
written from the program.
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from smnet.cli.main import app

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "build" / "source"


def gather() -> None:
    """Write all pages, with links between the two folders adapted to the site."""
    shutil.rmtree(TARGET, ignore_errors=True)
    shutil.copytree(ROOT / "docs", TARGET)
    (TARGET / "cli.md").write_text(command_line(), encoding="utf-8")
    for page in TARGET.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace("](../benchmarks/results/", "](results/"), encoding="utf-8")
    (TARGET / "results").mkdir()
    for page in (ROOT / "benchmarks" / "results").glob("*.md"):
        text = page.read_text(encoding="utf-8").replace("](../../docs/", "](../")
        (TARGET / "results" / page.name).write_text(text, encoding="utf-8")


def command_line() -> str:
    """The page in Markdown: one section per verb."""
    root = typer.main.get_command(app)
    lines = [
        "# Command line",
        "",
        "Every verb prints this text under `--help`. Exit statuses are on the page"
        " [Reliability](reliability.md#exit-statuses).",
        "",
    ]
    for name, command in verbs(root, "smnet"):
        lines += [f"## {name}", "", *description(command.help or ""), *usage(name, command)]
    return "\n".join(lines).rstrip() + "\n"


def verbs(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Every command below ``group`` with its full name, depth first."""
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from verbs(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def description(help_text: str) -> list[str]:
    """The help text, its paragraph of examples as a code block."""
    lines: list[str] = []
    for paragraph in inspect.cleandoc(help_text).split("\n\n"):
        text = paragraph.replace("\b", "").strip("\n")
        head, _, rest = text.partition("\n")
        if head.rstrip(":") in ("Example", "Examples") and rest:
            lines += ["```sh", inspect.cleandoc("\n" + rest), "```", ""]
        elif text:
            lines += [text, ""]
    return lines


def usage(name: str, command: Any) -> list[str]:
    """Tables of the arguments and the options of one command."""
    rows = []
    for parameter in command.params:
        if parameter.name == "help" or getattr(parameter, "hidden", False):
            continue
        if parameter.param_type_name == "argument":
            shown = f"`{parameter.metavar or parameter.name.upper()}`"
        else:
            shown = ", ".join(f"`{flag}`" for flag in [*parameter.opts, *parameter.secondary_opts])
        default = parameter.default
        value = "" if callable(default) or default in (None, False, (), []) else f"`{default}`"
        text = " ".join((parameter.help or "").split())
        rows.append(" | ".join(cell.replace("|", "\\|") for cell in (shown, text, value)))
    if not rows:
        return []
    return (
        ["| argument or option | meaning | default |", "| --- | --- | --- |"]
        + [f"| {row} |" for row in rows]
        + [""]
    )


if __name__ == "__main__":
    gather()
