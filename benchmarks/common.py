"""What the benchmarks share: their tables, and the file of figures with its command and commit."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from smnet.files import write_text
from smnet.system import describe_machine

RESULTS = Path(__file__).parent / "results"


def command() -> str:
    """The command line of this run, from the root of the repository."""
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


@cache
def commit() -> str:
    """The commit the figures belong to, with a mark if files were changed since."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


commit()  # now, before a table or a page is written


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def keep(path: Path, facts: Mapping[str, Any]) -> None:
    """Write the figures with what they were measured by and on; print where they are."""
    said = {"command": command(), "commit": commit(), "machine": describe_machine(), **facts}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(said, indent=2) + "\n")
    print(f"\n{said['machine']}\nwritten: {path}")
