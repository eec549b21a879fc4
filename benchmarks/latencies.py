"""The latencies in tables of comparison.py, measured again: the rest of a table is of its runs.

    python benchmarks/latencies.py                           # of all tables of benchmarks/results
    python benchmarks/latencies.py benchmarks/results/motion-family.json --rounds 30

Times depend on nothing that is learned, so that the networks need not be there. Those of a table
take turns, and each is given in units of the first. A table then names the commit of its latencies.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from common import RESULTS, command, commit, keep
from smnet.experiments.compare import latencies
from smnet.files import write_text
from smnet.models import create_model

NOTE = "Latencies: commit "


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", type=Path, metavar="TABLE.json")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for file in given.tables or sorted(RESULTS.glob("*.json")):
        table = json.loads(file.read_text(encoding="utf-8"))
        if "recipe" not in table or any("options" not in row for row in table["rows"]):
            continue  # of another script, or of a time when tables did not tell their networks
        times = measure(table, given.rounds)
        for row, seconds in zip(table["rows"], times, strict=True):
            row["latency"] = seconds
        table["latencies"] = {"commit": commit(), "command": command(), "threads": 1}
        keep(file, table)
        page = file.with_suffix(".md")
        write_text(page, renewed(page.read_text(encoding="utf-8"), times))
        print(file.name, " ".join(f"{seconds / times[0]:.2f}" for seconds in times), flush=True)


def measure(table: dict, rounds: int) -> list[float]:
    recipe = table["recipe"]
    models = []
    for row in table["rows"]:
        options = {**recipe["options"], **row["options"]}
        model = create_model(row["model"], 10, recipe["segments"], **options)
        model.spec = replace(model.spec, input_size=recipe["size"])
        models.append(model)
    return latencies(models, rounds)


def renewed(page: str, times: list[float]) -> str:
    """A table with these ratios in its last column, and the commit that they are of."""
    left = [f"{seconds / times[0]:.2f}" for seconds in times]
    lines = []
    for line in page.rstrip("\n").split("\n"):
        if line.startswith("| ") and not line.startswith(("| model", "| ---")):
            line = f"{line.rstrip(' |').rpartition('|')[0]}| {left.pop(0)} |"
        lines.append(line)
    if left:
        raise SystemExit("a table of other rows than its json")
    if lines[-1].startswith(NOTE):
        del lines[-2:]
    return "\n".join([*lines, "", f"{NOTE}{commit()}, one thread: `{command()}`.", ""])


if __name__ == "__main__":
    main()
