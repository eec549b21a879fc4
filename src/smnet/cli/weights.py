"""``smnet weights``."""

from __future__ import annotations

from dataclasses import asdict
from fnmatch import fnmatch
from typing import Annotated

import typer

from smnet.cli.options import AsJson
from smnet.console import json_text, output
from smnet.errors import UserError


def weights(
    pattern: Annotated[
        str, typer.Argument(metavar="[PATTERN]", help="Names to list, such as 'tsm_*'.")
    ] = "*",
    as_json: AsJson = False,
) -> None:
    """List trained networks that every verb takes by name.

    motion ships with smnet. The others are published by MMAction2, fetched at first use, checked by
    their hash, converted and kept in the cache. Their accuracies are the published ones.

    \b
    Examples:
      smnet weights
      smnet weights '*somethingv2*'
      smnet predict motion clip.mp4
      smnet predict tsm_resnet50-kinetics400 clip.mp4
      smnet train --data clips/ model=tsm_resnet50 weights=tsm_resnet50-kinetics400
    """
    from rich.table import Table

    from smnet.checkpoints.header import read_header
    from smnet.checkpoints.published import DATASETS, SHIPPED, published
    from smnet.system import cache_folder

    folder = cache_folder("weights")
    shipped = {name: read_header(path) for name, path in SHIPPED.items() if fnmatch(name, pattern)}
    networks = [n for n in published().values() if fnmatch(n.name, pattern)]
    if not shipped and not networks:
        raise UserError(f"no network matches {pattern!r}; `smnet weights` lists all")
    cached = {n.name for n in networks if (folder / f"{n.name}.safetensors").is_file()}
    if as_json:
        rows = [
            {"name": name, "model": h.spec.name, "shipped": True} for name, h in shipped.items()
        ]
        rows += [asdict(n) | {"address": n.address, "cached": n.name in cached} for n in networks]
        typer.echo(json_text(rows, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("name", "trained on", "frames", "top-1", "top-5", "views", "MB", "here"):
        numeric = column in ("frames", "top-1", "top-5", "MB")
        table.add_column(column, justify="right" if numeric else "left", no_wrap=True)
    for name, header in shipped.items():
        size = f"{SHIPPED[name].stat().st_size / 1e6:.0f}"
        frames = str(header.spec.frames_per_clip)
        table.add_row(name, "drawn basic motions", frames, "", "", "", size, "ships")
    for n in networks:
        accuracy = (f"{n.top1:.2f}", f"{n.top5:.2f}", n.protocol)
        here = "yes" if n.name in cached else ""
        row = (n.name, DATASETS[n.dataset], str(n.frames), *accuracy, str(n.megabytes), here)
        table.add_row(*row)
    console = output()
    if not console.is_terminal:
        console.width = 120  # files and pipes have no width
    console.print(table)
    typer.echo(f"top-1, top-5: as published, on these views. Cache: {folder}")
