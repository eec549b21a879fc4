"""``smnet embed`` and ``smnet find``: vectors of videos, and finding videos by them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from smnet.cli.hints import check_order
from smnet.cli.options import (
    AsJson,
    CorpusTimeout,
    Device,
    Overwrite,
    Retry,
    Share,
    Views,
    Workers,
)
from smnet.cli.predict import parse_share, print_summary
from smnet.errors import UserError


def embed(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint, or the folder of a run.")],
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Videos, folders, patterns, addresses, @list.txt, manifests or .tar shards.",
        ),
    ],
    out: Annotated[str, typer.Option(metavar="DIR", help="Folder of the index.")],
    every: Annotated[
        str | None,
        typer.Option(
            metavar="SECONDS", help="Between vectors of a recording, or frame. Default: one vector."
        ),
    ] = None,
    window: Annotated[
        float | None,
        typer.Option(min=0.01, help="With --every: seconds per vector. Default: the same."),
    ] = None,
    views: Views = "1x1",
    batch: Annotated[int, typer.Option(min=1, help="Videos per batch.")] = 8,
    workers: Workers = None,
    device: Device = "auto",
    share: Share = None,
    timeout: CorpusTimeout = 180.0,
    retry: Retry = False,
    npz: Annotated[
        str | None, typer.Option(metavar="FILE.npz", help="Write the vectors for NumPy, too.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Compute a vector for each video, into a Parquet table that smnet find searches.

    A vector holds the mean of the network's features over time, their deviation, and their
    direction, in float16. Run again, it does what is missing.

    \b
    Examples:
      smnet embed runs/mine clips/ --out index
      smnet embed runs/mine recordings/ --every 1 --window 2 --out index
      smnet embed runs/mine recordings/ --every frame --window 1 --out index
      smnet embed runs/mine clips/ --out index --npz vectors.npz
    """
    from smnet.corpus.run import run_corpus
    from smnet.embed.index import Index
    from smnet.embed.vectors import embed_windows, embedding_work
    from smnet.files import check_outputs, check_suffix
    from smnet.inference.backends import open_backend, plan_views
    from smnet.recipes.views import parse_views

    check_order(checkpoint)
    if window is not None and every is None:
        raise UserError("--window belongs to --every SECONDS")
    if npz is not None:
        if share is not None:
            raise UserError("--npz takes the vectors of all shares; leave out --share")
        check_suffix(npz, (".npz",), "an archive of NumPy")
        check_outputs({"--npz": npz}, (checkpoint, *sources), overwrite)
    backend = open_backend(checkpoint, device)
    plan = plan_views(backend, *parse_views(views))
    step = _seconds(every)
    length = window or step
    work = embedding_work(backend, plan, checkpoint, every=step or every, window=length)
    common: dict[str, Any] = {"batch": batch, "workers": workers, "timeout": timeout}
    common |= {"share": parse_share(share), "retry": retry}
    if every is None:
        summary = run_corpus(work, sources, out, **common)
    else:
        summary = embed_windows(work, sources, out, step, length, **common)
    if npz is not None:
        Index.load(out).save_npz(npz)
    print_summary(summary, out)


def _seconds(every: str | None) -> float | None:
    """The number in ``--every``; None for frame."""
    if every in (None, "frame"):
        return None
    try:
        seconds = float(every)
    except ValueError:
        seconds = 0.0
    if not 0.01 <= seconds < float("inf"):
        raise UserError(f"--every {every}: give seconds, at least 0.01, or frame")
    return seconds


def find(
    index: Annotated[str, typer.Option("--in", metavar="DIR", help="The folder of smnet embed.")],
    examples: Annotated[
        list[str] | None, typer.Argument(metavar="[CLIP...]", help="Videos like those wanted.")
    ] = None,
    unlike: Annotated[
        list[str] | None, typer.Option("--not", metavar="CLIP", help="A video unlike those wanted.")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-k", min=1, help="Videos to find.")] = 10,
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="Find groups of near-duplicates instead.")
    ] = False,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="With --duplicates: the least cosine.")
    ] = 0.95,
    approximate: Annotated[
        bool | None,
        typer.Option(
            "--approximate/--exact",
            help="Search with faiss, or compare all. Default: exact up to a million vectors.",
        ),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option("--from", metavar="CHECKPOINT", help="Default: the checkpoint of the index."),
    ] = None,
    device: Device = "auto",
    as_json: AsJson = False,
    page: Annotated[
        str | None,
        typer.Option(metavar="OUT.html", help="Write a page on which the videos found play."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Find the videos of an index that are like an example, or its near-duplicates.

    Examples may be videos of the index or others. Videos given as examples are not found.

    \b
    Examples:
      smnet find clip.mp4 --in index
      smnet find good.mp4 better.mp4 --not bad.mp4 --in index -k 20 --json
      smnet find --duplicates --in index
    """
    from smnet.embed.approximate import MANY, Approximate
    from smnet.embed.index import Index, table_of

    if duplicates == bool(examples):
        raise UserError("give an example, or --duplicates")
    if page is not None:
        from smnet.files import check_outputs, check_suffix

        check_suffix(page, (".html",), "a page")
        check_outputs({"--page": page}, (*(examples or ()), *(unlike or ())), overwrite)
    opened = Index.load(index)
    if duplicates:
        groups = opened.duplicates(threshold)
        _print_groups(opened, groups, as_json)
        return
    from smnet.embed.vectors import query

    like = query(opened, examples or (), checkpoint, device)
    against = query(opened, unlike or (), checkpoint, device)
    known = [row for path in [*(examples or ()), *(unlike or ())] for row in opened.rows_of(path)]
    candidates = None
    if approximate or (approximate is None and len(opened) > MANY):
        candidates = Approximate(opened, table_of(index))
    matches = opened.find(like, against, count, known, candidates)
    if page is not None:
        from smnet.files import write_text
        from smnet.report.corpus_page import found_page

        found = [(match.path, match.part, match.score) for match in matches]
        write_text(page, found_page(examples or (), found))
        typer.echo(f"written: {page}", err=True)
    if as_json:
        from smnet.console import json_text

        for match in matches:
            typer.echo(json_text(match.to_dict()))
        return
    from smnet.report.tables import print_table

    print_table(("video", "cosine"), [(match.name, f"{match.score:.3f}") for match in matches])


def _print_groups(index: Any, groups: list[list[int]], as_json: bool) -> None:
    from smnet.console import json_text, plural

    for group in groups:
        names = [index.name(row) for row in group]
        if as_json:
            typer.echo(json_text(names))
        else:
            typer.echo("\n".join([f"{plural(len(names), 'video')}:", *(f"  {n}" for n in names)]))
    typer.echo(f"{plural(len(groups), 'group')} of near-duplicates", err=True)
