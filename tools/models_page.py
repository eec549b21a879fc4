"""Write the page of models and their options: python tools/models_page.py FILE."""

from __future__ import annotations

import sys
from pathlib import Path

from smnet.models.options import Options, TrunkOptions, describe
from smnet.models.registry import FAMILIES
from smnet.models.trunks import TRUNKS, trunks_in_words

INTRODUCTION = """\
# Models and options

<!-- Written by tools/models_page.py from the declarations in src/smnet/models. Do not edit. -->

A model is named `FAMILY_TRUNK`, for instance `smnet_resnet50`. The family is the temporal model,
the trunk the image network under it. `smnet models` prints the table of families, and
`smnet models NAME` the options of one model.

Options are set in a recipe, on the command line or from Python:

```sh
smnet train --data clips/ model=smnet_resnet50 options.place=after_conv1
```

```python
smnet.create_model("smnet_resnet50", num_classes=174, place="after_conv1")
```

An unknown option or an impossible value is an error that names the nearest option or the accepted
values.
"""


def page() -> str:
    """The page in Markdown."""
    lines = [INTRODUCTION, "## Families", "", *families(), "## Trunks", "", *trunks()]
    for key, family in FAMILIES.items():
        lines += [f"## {key}", "", f"{sentence(family.about)} {family.paper}.", ""]
        lines += options(family.options) or ["No options of its own.", ""]
        if not issubclass(family.options, TrunkOptions):
            lines += ["The options of the trunk can be set, too.", ""]
    return "\n".join(lines).rstrip() + "\n"


def families() -> list[str]:
    """One row per family. Costs are in units of TSN on the same trunk."""
    head = ("family", "what it does", "paper", "trunks", "parameters", "multiply-adds")
    rows = []
    for key, family in FAMILIES.items():
        cost = [f"{c:.2f}" for c in family.cost or ()] or ["", ""]
        trunks = trunks_in_words(family.trunks)
        rows.append((f"[`{key}`](#{key})", family.about, family.paper, trunks, *cost))
    note = (
        "Parameters and multiply-adds are in units of TSN on one trunk (ResNet-50; Res2Net-50"
        " for TEA), with 8 segments of 224 x 224 pixels and 400 classes."
    )
    return [*table(head, rows), note, ""]


def trunks() -> list[str]:
    """The options of the trunks."""
    lines = [f"The trunks are {', '.join(f'`{name}`' for name in TRUNKS)}.", ""]
    titles = {"resnet50": "ResNets", "res2net50": "Res2Net", "mobilenetv2": "MobileNetV2"}
    for name, title in titles.items():
        lines += [f"### {title}", "", *options(TRUNKS[name])]
    return lines


def options(declaration: type[Options]) -> list[str]:
    """One row per option."""
    rows = [
        (f"`{row.name}`", f"`{row.default}`", row.accepted, row.meaning)
        for row in describe(declaration)
    ]
    return table(("option", "default", "values", "meaning"), rows) if rows else []


def sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    cells = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in (head, *rows)]
    cells.insert(1, " | ".join("---" for _ in head))
    return [*(f"| {row} |" for row in cells), ""]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
