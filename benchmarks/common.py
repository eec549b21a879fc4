"""What all benchmarks share: arguments, tables, and the pages of results.

A page of ``results/`` is one topic. Each of its sections is one measurement, with its command,
commit and machine. Measuring the same section again replaces it.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from smnet.files import write_text
from smnet.system import describe_machine

HERE = Path(__file__).parent
RESULTS = HERE / "results"


def parser(doc: str | None) -> argparse.ArgumentParser:
    """An argument parser whose description is the first line of ``doc``."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument(
        "--allow-dirty",
        action="store_true",
        help="measure a working tree with changes; the results are printed and not written",
    )
    return made


def parse(made: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments, after a check that the figures will belong to a commit."""
    given = made.parse_intermixed_args()
    if not given.allow_dirty and (changed := changed_files()):
        made.error(
            f"the working tree has changes ({', '.join(changed[:3])}), so the figures would belong"
            " to no commit; commit first, or give --allow-dirty to measure without writing results"
        )
    return given


def changed_files() -> list[str]:
    """Tracked files that differ from the commit, except the pages that benchmarks write."""
    pages = [":(top,exclude)benchmarks/results", ":(top,exclude)docs"]
    lines = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", *pages)
    return [line[3:] for line in lines.splitlines()]


def provenance() -> str:
    """The command, commit and machine of this run, as a line of Markdown."""
    script = f"benchmarks/{Path(sys.argv[0]).name}"
    command = shlex.join(["python", script, *sys.argv[1:]])
    machine = ", ".join(f"{key} {value}" for key, value in describe_machine().items())
    return f"Command: `{command}`. Commit {_git('rev-parse', '--short', 'HEAD')}. {machine}."


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def publish(given: argparse.Namespace, topic: str, title: str, *paragraphs: str) -> None:
    """Print a section and write it to ``results/TOPIC.md``, in place of the one of that title."""
    section = "\n\n".join([f"## {title}", *filter(None, paragraphs), provenance()])
    print(section)
    if given.allow_dirty:
        print("\nnot written: --allow-dirty")
        return
    path = RESULTS / f"{topic}.md"
    page = path.read_text(encoding="utf-8") if path.exists() else f"# {topic.capitalize()}\n"
    write_text(path, replace_section(page, title, section))
    print(f"\nwritten: {path}")


def replace_section(page: str, title: str, section: str) -> str:
    """A page with one section replaced, or appended if the page has none of that title."""
    head, *sections = re.split(r"^(?=## )", page, flags=re.MULTILINE)
    kept = [s.strip() for s in sections]
    place = [s.startswith(f"## {title}\n") for s in kept]
    if any(place):
        kept[place.index(True)] = section
    else:
        kept.append(section)
    return "\n\n".join([head.strip(), *kept]) + "\n"


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", *words], capture_output=True, text=True, check=True, cwd=HERE, timeout=60
    )
    return done.stdout.rstrip("\n")
