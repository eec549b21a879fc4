"""``smnet label``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from smnet.cli.options import Device, Workers
from smnet.errors import UserError


def label(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="INBOX...", help="Videos, folders, patterns, or @list.txt."),
    ],
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="RUN",
            help="A run or another checkpoint; at the start, a file of ImageNet weights.",
        ),
    ],
    out: Annotated[
        str, typer.Option(metavar="FILE.csv", help="The labels. Labels that it has are kept.")
    ] = "labels.csv",
    count: Annotated[int, typer.Option(min=1, help="Clips to ask for.")] = 30,
    classes: Annotated[
        str | None,
        typer.Option(help="Classes with commas between them. Default: those of the network."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port. 0: any free one.")] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no browser.")] = False,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """Label the clips that would help most.

    Proposes the clips that the network is least sure of and that differ from each other and from
    those with a label. A page on this machine shows them and takes the labels by the keys 1 to 9.
    Each label is written at once, as a csv that train and adapt read. The same command continues.

    \b
    Examples:
      smnet label inbox/ --from runs/mine
      smnet label inbox/ --from resnet50.safetensors --classes "jump,run,none" --count 50
      smnet adapt labels.csv --from resnet50.safetensors
    """
    import webbrowser

    from smnet.adapt.inbox import choose_clips
    from smnet.adapt.labelling import LabelServer, LabelTable
    from smnet.inference.sources import find_videos
    from smnet.report.clips import copy_of
    from smnet.report.label_page import label_page

    if not out.lower().endswith(".csv"):
        raise UserError(f"--out {out}: labels are written as .csv")
    table = LabelTable(Path(out))
    videos = [str(Path(video).absolute()) for video in find_videos(sources)]
    names = [name.strip() for name in classes.split(",") if name.strip()] if classes else None
    asked = choose_clips(
        start, videos, table, count, names, Path(f"{out}.features.npz"), device, workers
    )
    if not asked.clips:
        typer.echo(f"all {len(videos)} clips have a label: {out}")
        return
    page = label_page([Path(c).name for c in asked.clips], asked.classes, asked.guesses)
    before = len(table.rows)
    with LabelServer(page, asked.clips, copy_of, table, port) as server:
        typer.echo(f"{len(asked.clips)} clips to label, at {server.address} (Ctrl-C ends)")
        if not no_browser:
            webbrowser.open(server.address)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    typer.echo(f"{len(table.rows) - before} new labels, {len(table.rows)} in all: {out}")
    if table.rows:
        typer.echo(f"next: smnet adapt {out} --from {start}")
