"""SMNet beside its neighbours, and its parts beside each other, under one budget.

    python benchmarks/comparison.py family                      # on motion, ResNet-18, 3 seeds
    python benchmarks/comparison.py parts place fusion --seeds 5
    python benchmarks/comparison.py family --data clips/ --name mine size=112 epochs=30
    python benchmarks/comparison.py family --data clips/ weights=runs/comparison/motion  # fine-tune

A name is a study (``smnet compare --help`` lists them) or a file of one; KEY=VALUE changes the
budget for all. The work is that of ``smnet compare``, in one folder for all studies. What is done
already is kept, so that the same command goes on after an interruption. Tables go to
benchmarks/results/ with the command and the commit.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from common import RESULTS, command, commit, keep
from smnet.experiments.compare import MOTION, MOTION_BUDGET, compare
from smnet.experiments.demo import draw
from smnet.experiments.study import read_study
from smnet.files import write_text
from smnet.recipes.recipe import read_recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="+", metavar="STUDY|KEY=VALUE")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", help="a data set instead of motion")
    parser.add_argument("--trunk", help="put the studies on this trunk")
    parser.add_argument("--name", default="motion", help="of the tables: NAME-STUDY.md")
    parser.add_argument("--out", type=Path, default=Path("runs/comparison"))
    given = parser.parse_intermixed_args()  # KEY=VALUE after an option too
    changes = [word for word in given.words if "=" in word]
    studies = [word for word in given.words if "=" not in word]
    if given.data is None:
        folder = Path(draw(given.out / "clips", **MOTION).root)
        changes = [*MOTION_BUDGET, *changes]
    else:
        folder = Path(given.data)
    recipe = read_recipe("motion", changes, {"data": str(folder)})
    for study in studies:
        # One folder for all: a variant that two studies share is trained once.
        compare(recipe, read_study(study), given.seeds, given.out / given.name, given.trunk)
        publish(given.out / given.name, f"{given.name}-{Path(study).stem}")


def publish(out: Path, name: str) -> None:
    """The table of the last comparison in ``out``, with where it comes from."""
    text = (out / "table.md").read_text(encoding="utf-8")
    text = f"{text}\nCommit {commit()}: `{command()}`.\n"
    write_text(RESULTS / f"{name}.md", text)
    print(text)
    values = json.loads((out / "table.json").read_text(encoding="utf-8"))
    for key in ("data", "weights"):
        values["recipe"][key] = Path(values["recipe"][key]).name
    keep(RESULTS / f"{name}.json", values)


if __name__ == "__main__":
    main()
