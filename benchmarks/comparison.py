"""The accuracy of SMNet, its neighbours and its variants under one budget.

    python benchmarks/comparison.py family                      # on motion, ResNet-18, 3 seeds
    python benchmarks/comparison.py parts place fusion --seeds 5 --topic ablations
    python benchmarks/comparison.py family --data clips/ --name mine size=112 epochs=30
    python benchmarks/comparison.py family --data clips/ weights=runs/comparison/motion  # fine-tune

Positional arguments are studies (``smnet compare --help`` lists them) or study files, and KEY=VALUE
changes of the budget. The work is that of ``smnet compare``. All studies share one folder, finished
runs are kept, and the same command resumes an interrupted comparison.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from common import parse, parser, publish, table
from smnet.experiments.compare import MOTION, MOTION_BUDGET, compare
from smnet.experiments.demo import draw
from smnet.experiments.study import read_study
from smnet.experiments.table import Row
from smnet.recipes.recipe import read_recipe


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("words", nargs="+", metavar="STUDY|KEY=VALUE")
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--data", help="data set in place of motion")
    arguments.add_argument("--trunk", help="trunk for all models")
    arguments.add_argument("--name", default="motion", help="name of the data set and budget")
    arguments.add_argument("--topic", help="page of results; default: NAME")
    arguments.add_argument("--out", type=Path, default=Path("runs/comparison"))
    given = parse(arguments)
    changes = [word for word in given.words if "=" in word]
    studies = [word for word in given.words if "=" not in word]
    if given.data is None:
        folder = Path(draw(given.out / "clips", **MOTION).root)
        changes = [*MOTION_BUDGET, *changes]
    else:
        folder = Path(given.data)
    recipe = read_recipe("motion", changes, {"data": str(folder)})
    for study in studies:
        # One folder for all studies: a model that two studies share is trained once.
        out = given.out / given.name
        compare(recipe, read_study(study), given.seeds, out, given.trunk)
        values = json.loads((out / "table.json").read_text(encoding="utf-8"))
        title = f"{given.name}: {Path(study).stem}, {plural(given.seeds)}"
        publish(given, given.topic or given.name, title, *section(values))


def section(values: dict[str, Any]) -> tuple[str, str]:
    """The table of a ``table.json``, and its budget in one line."""
    rows = [
        Row(
            row["label"],
            row["model"],
            row["top1"],
            row["parameters"],
            row["gmacs"],
            math.nan,
            row["seconds"],
        )
        for row in values["rows"]
    ]
    cells = []
    for row in rows:
        mean, half = row.over(rows[0])
        cells.append(
            [
                row.label.replace("|", r"\|"),
                interval(row.mean, row.half_width),
                "-" if row is rows[0] else interval(mean, half, "+"),
                " ".join(f"{100 * value:.1f}" for value in row.top1),
                f"{row.parameters / 1e6:.2f} M",
                f"{row.gmacs:.3g}",
            ]
        )
    recipe = values["recipe"]
    options = "".join(f", {key}={value}" for key, value in recipe["options"].items())
    budget = (
        f"{recipe['epochs']} epochs, {recipe['segments']} segments of {recipe['size']} x"
        f" {recipe['size']}, weights {Path(recipe['weights']).name}{options}. Top-1 in percent on"
        " validation clips, last epoch, one view; ± is the 95 % interval over seeds."
    )
    header = ["model", "top-1", "to first row", "per seed", "parameters", "GMAC"]
    return table(header, cells), budget


def interval(mean: float, half: float, sign: str = "") -> str:
    """A share in percent with its interval, where there is one."""
    return f"{100 * mean:{sign}.1f}" + ("" if math.isnan(half) else f" ± {100 * half:.1f}")


def plural(seeds: int) -> str:
    return f"{seeds} seed{'s' * (seeds > 1)}"


if __name__ == "__main__":
    main()
