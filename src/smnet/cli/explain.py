"""``smnet explain``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smnet.cli.hints import check_order
from smnet.cli.options import Device, Overwrite
from smnet.cli.reports import command
from smnet.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from smnet.explain.checks import Checks
    from smnet.explain.run import Explained
    from smnet.inference.recognizer import Recognizer
    from smnet.inference.sources import Source


def explain(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="A checkpoint, the folder of a run, a name of smnet weights, or a file of"
            " smnet export --features."
        ),
    ],
    sources: Annotated[
        list[str],
        typer.Argument(metavar="CLIP...", help="Videos, folders, patterns, or @list.txt."),
    ],
    label: Annotated[
        str | None, typer.Option("--class", help="The class. Default: the best one of each clip.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="CLASS", help="Explain why not this class.")
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(metavar="CHECKPOINT", help="Another network to compare with; repeatable."),
    ] = None,
    out: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Write .html, .mp4, .gif or .png; repeatable."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Check the map: random weights, deletion, insertion.")
    ] = False,
    shuffles: Annotated[
        int, typer.Option(min=1, max=1000, help="Random orders in the test of time.")
    ] = 10,
    start: Annotated[
        str | None, typer.Option(metavar="TIME", help="Begin of the part: seconds, or h:mm:ss.")
    ] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="End of the part.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line per clip.")] = False,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Explain why a network scores a clip as it does.

    Prints the evidence of each frame for the class, and the test of time: the score of the frames
    reversed, shuffled, frozen, and with one left out. The page, the video and the picture show the
    evidence as a map over the frames. For linear heads the map is exact: its sum is the logit.

    --check takes about 150 scores a clip. Over several clips its intervals are those of the clips.

    \b
    Examples:
      smnet explain runs/mine clip.mp4
      smnet explain runs/mine clip.mp4 --out why.html --out why.gif
      smnet explain runs/mine clip.mp4 --class rising --against falling
      smnet explain runs/smnet clip.mp4 --beside runs/tsn --out why.html
      smnet explain runs/mine clips/val --check
    """
    from smnet.data.annotations.times import part_of
    from smnet.explain.draw import SUFFIXES, write_shown
    from smnet.explain.page import explanation_page
    from smnet.files import check_outputs, check_suffix, write_text
    from smnet.inference.recognizer import Recognizer
    from smnet.inference.sources import find_sources

    check_order(checkpoint)
    part, wrong = part_of({("s", "start"): start or "", ("s", "end"): end or ""})
    if wrong:
        raise UserError(f"--start {start} --end {end}: {wrong}")
    videos = find_sources(sources, part)
    targets = out or []
    if targets and len(videos) != 1:
        raise UserError(f"--out takes one clip; {len(videos)} were given")
    for target in targets:
        check_suffix(target, SUFFIXES, "an explanation")
    names = [checkpoint, *(beside or ())]
    outputs = {f"--out {target}": target for target in targets}
    check_outputs(outputs, (*names, *sources), overwrite)
    networks = [(_short(name, names), Recognizer.load(name, device)) for name in names]

    failed = 0
    checked = []
    for number, video in enumerate(videos):
        try:
            found = _explain(networks, video, label, against, shuffles, check)
        except UserError as error:
            if len(videos) == 1:
                raise
            failed += 1
            typer.echo(f"smnet: {error}", err=True)
            continue
        for target in targets:
            if Path(target).suffix.lower() == ".html":
                write_text(target, explanation_page(found, command()))
            else:
                write_shown(target, [one.shown for one in found])
            typer.echo(f"written: {target}", err=True)
        checked += [one.checks for one in found[:1] if one.checks is not None]
        if as_json:
            _print_json(found)
        else:
            _print(found, gap=number > 0)
    if len(checked) > 1 and not as_json:
        _print_checks(f"{len(checked)} clips", checked)
    if failed:
        raise typer.Exit(1)


def _explain(
    networks: list[tuple[str, Recognizer]],
    video: Source,
    label: str | None,
    against: str | None,
    shuffles: int,
    check: bool,
) -> list[Explained]:
    """One clip explained by every network, for the class of the first one."""
    from smnet.console import progress_bar
    from smnet.explain.run import explain as run

    found: list[Explained] = []
    with progress_bar(quiet=not check) as bar:
        for name, network in networks:
            task = bar.add_task(f"checking {name}", total=None, note="")
            one = run(
                network,
                video,
                found[0].label if found else label,
                against,
                name=name,
                shuffles=shuffles,
                checks=check,
                done=partial(_advance, bar, task),
            )
            found.append(one)
    return found


def _advance(bar: Progress, task: TaskID, step: int, steps: int) -> None:
    bar.update(task, completed=step, total=steps)


def _short(name: str, names: list[str]) -> str:
    """The name of a network on the page: of its run or its file, whole where these are alike."""

    def shorten(path: str) -> str:
        stem = Path(path).stem
        return Path(path).parent.name if stem == "best" and Path(path).parent.name else stem

    alike = [other for other in names if shorten(other) == shorten(name)]
    return name if len(alike) > 1 else shorten(name)


def _print(found: list[Explained], gap: bool = False) -> None:
    from smnet.report.tables import print_table

    for number, one in enumerate(found):
        if gap or number:
            typer.echo("")
        typer.echo(f"{one.evidence.path}: {one.question}, score {one.score:.1%} by {one.name}")
        typer.echo(f"{one.sum_line}\n")
        curve = one.evidence.curve(one.label, one.against)
        print_table(
            ("frame", *(str(k + 1) for k in range(len(curve)))),
            [("evidence", *(f"{value:+.2f}" for value in curve))],
        )
        typer.echo("")
        print_table(("order of the frames", "score", "change"), one.order.rows)
        if one.order.verdict:
            typer.echo(one.order.verdict)
        if one.checks is not None:
            typer.echo("\n" + "\n".join(one.check_lines))
            _print_checks("one clip", [one.checks])


def _print_checks(title: str, checks: list[Checks]) -> None:
    from smnet.explain.checks import compare
    from smnet.report.tables import print_table

    rows = [row.row for row in compare(checks)]
    print_table((title, "evidence", "baseline", "gain [95 %]"), rows)


def _print_json(found: list[Explained]) -> None:
    from smnet.console import json_text

    first, *others = [one.to_dict() for one in found]
    typer.echo(json_text({**first, **({"beside": others} if others else {})}))
