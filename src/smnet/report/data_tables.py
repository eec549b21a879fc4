"""Data sets, checks, statistics and packed sets on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from smnet.console import output, plural
from smnet.data.checks.check import CheckReport, Finding
from smnet.data.checks.stats import Survey
from smnet.data.clips import ClipSet
from smnet.data.packing.pack import PackReport
from smnet.report.tables import SHOWN_CLASSES, plain_table, say

SHOWN_FINDINGS = 40


def clips_summary(clips: ClipSet, rows: int, problems: int) -> dict[str, Any]:
    """A data set as plain values, with the first ``rows`` of each split."""
    names = _split_names(clips)
    return {
        "data": clips.root,
        "format": clips.format,
        "why": clips.why,
        "classes": list(clips.classes),
        "splits": {name: len(clips.splits.get(name, ())) for name in names},
        "missing": {name: len(clips.missing.get(name, ())) for name in names},
        "rows": {
            name: [
                {
                    **{"source": c.source, "path": c.path, "label": c.label},
                    **({"start": c.start, "end": c.end, "unit": c.unit} if c.part else {}),
                    **({"group": c.group} if c.group else {}),
                    "frames": c.num_frames,
                }
                for c in clips.splits.get(name, ())[:rows]
            ]
            for name in names
        },
        "problems": problems,
    }


def print_clips(clips: ClipSet, rows: int) -> None:
    """The format of a data set, its classes and splits, and the first ``rows`` of each split."""
    console = output()
    say(console, f"{clips.root}: format {clips.format}")
    say(console, f"because: {clips.why}")
    shown = ", ".join(clips.classes[:8])
    more = f" and {len(clips.classes) - 8} more" if len(clips.classes) > 8 else ""
    say(console, f"{len(clips.classes)} classes: {shown}{more}")
    console.print()
    names = _split_names(clips)
    table = plain_table("split", "clips", "missing")
    for name in names:
        counts = (len(clips.splits.get(name, ())), len(clips.missing.get(name, ())))
        table.add_row(name, *map(str, counts))
    console.print(table)
    for name in names if rows else ():
        console.print(f"\nfirst rows of {name}:")
        for clip in clips.splits.get(name, ())[:rows]:
            label = clips.classes[clip.label] if clip.label >= 0 else "no label"
            notes = [] if clip.source == clip.path else [clip.source]
            notes += [f"{clip.num_frames} frames"] if clip.num_frames else []
            note = f" ({', '.join(notes)})" if notes else ""
            say(console, f"  {label}: {clip.name}{note}")


def _split_names(clips: ClipSet) -> list[str]:
    return [s for s in ("train", "val", "test") if s in clips.splits or s in clips.missing]


def print_pack(report: PackReport) -> None:
    """The contents of a packed set, and the clips that were left out."""
    console = output()
    manifest, skipped = report.manifest, report.manifest.skipped
    splits = ", ".join(f"{split} {clips}" for split, clips in manifest.splits.items())
    earlier = f", {report.kept} of them by an earlier run" if report.kept else ""
    say(
        console,
        f"{report.folder}: {plural(report.clips, 'clip')} packed ({splits}){earlier};"
        f" {report.bytes / 1e6:,.1f} MB in {plural(len(manifest.shards), 'shard')},"
        f" {report.seconds:.1f} s",
    )
    if 0 < report.source_bytes < report.bytes:
        ratio = report.bytes / report.source_bytes
        say(
            console,
            f"the packed set is {ratio:.1f} times as large as the videos"
            f" ({report.source_bytes / 1e6:,.1f} MB); fewer --frames, a smaller --short-side or a"
            " lower --quality make it smaller",
        )
    if report.damaged:
        say(console, f"{plural(report.damaged, 'clip')} with lost or damaged frames in the source")
    for clip in skipped[:SHOWN_FINDINGS]:
        say(console, f"left out: {clip.source}: {clip.path}: {clip.reason}")
    if len(skipped) > SHOWN_FINDINGS:
        say(console, f"… and {len(skipped) - SHOWN_FINDINGS} more; manifest.json lists all")
    if skipped and report.kept:
        say(console, "clips left out by an earlier run are not tried again in the same folder")


def print_check(report: CheckReport) -> None:
    """The number of findings of each kind, and the first of them."""
    console = output()
    clips = report.clip_set
    say(console, f"{clips.root}: format {clips.format} ({clips.why})")
    rate = report.checked / max(report.seconds, 1e-9)
    how = "decoded" if report.decoded else "read without decoding"
    known = f" ({report.remembered} unchanged, remembered)" if report.remembered else ""
    say(
        console,
        f"{plural(report.checked, 'clip')} {how}{known} in {report.seconds:.1f} s,"
        f" {rate:.0f} clips/s; {sum(map(len, report.sound.values()))} sound",
    )
    if not report.findings:
        say(console, "nothing found")
        return
    table = plain_table("finding", "count")
    for kind, number in report.counts.items():
        table.add_row(kind, str(number))
    _print_between_blank_lines(console, table)
    for finding in _first_of_each_kind(report):
        where = finding.source
        if finding.path and finding.path != where:
            where += f" {finding.path}"
        say(console, f"{where}: {finding.kind}: {finding.message}")
    if len(report.findings) > SHOWN_FINDINGS:
        rest = len(report.findings) - SHOWN_FINDINGS
        say(console, f"… and {rest} more; --report FILE.csv lists all")


def _first_of_each_kind(report: CheckReport) -> list[Finding]:
    """The findings to show: a thousand of one kind must not hide those of another."""
    share = max(SHOWN_FINDINGS // max(len(report.counts), 1), 1)
    seen: dict[str, int] = {}
    first: list[int] = []
    later: list[int] = []
    for position, finding in enumerate(report.findings):
        seen[finding.kind] = seen.get(finding.kind, 0) + 1
        (first if seen[finding.kind] <= share else later).append(position)
    return [report.findings[position] for position in sorted((first + later)[:SHOWN_FINDINGS])]


def print_survey(survey: Survey) -> None:
    """Totals, quartiles, codecs and sizes, and clips per class."""
    console = output()
    clips, facts = survey.clip_set, survey.all
    say(console, f"{clips.root}: format {clips.format} ({clips.why})")
    total = sum(map(len, survey.facts.values()))
    gigabytes = sum(f.bytes for f in facts) / 1e9
    say(
        console,
        f"{plural(total, 'clip')}, {sum(survey.seconds) / 3600:.2f} hours, {gigabytes:.3f} GB;"
        f" {survey.missing} missing, {survey.unreadable} unreadable,"
        f" {plural(survey.problems, 'problem')} in the annotation",
    )
    table = plain_table("", "min", "25 %", "median", "75 %", "max")
    for name, spread in survey.spreads().items():
        if spread is not None:
            numbers = (spread.low, spread.q25, spread.median, spread.q75, spread.high)
            table.add_row(name, *(f"{number:.4g}" for number in numbers))
    _print_between_blank_lines(console, table)
    for title, counts in survey.kinds().items():
        if counts:
            shown = ", ".join(f"{name} {number}" for name, number in list(counts.items())[:8])
            more = f", {len(counts) - 8} more" if len(counts) > 8 else ""
            say(console, f"{title}: {shown}{more}")
    console.print()
    console.print(_clips_per_class(survey))


def _print_between_blank_lines(console: Console, table: Table) -> None:
    console.print()
    console.print(table)
    console.print()


def _clips_per_class(survey: Survey) -> Table:
    """The largest classes first; of very many, the largest and the smallest."""
    splits = survey.clip_set.splits
    table = plain_table("class", *splits)
    rows = sorted(survey.by_class().items(), key=lambda item: -sum(item[1].values()))
    half = SHOWN_CLASSES // 2
    skipped = len(rows) - SHOWN_CLASSES
    for number, (name, counts) in enumerate(rows):
        if skipped <= 0 or number < half or number >= len(rows) - half:
            table.add_row(Text(name), *map(str, counts.values()))
        elif number == half:
            table.add_row(f"… {skipped} classes between; --json lists all")
    table.add_section()
    table.add_row("all", *(str(len(clips)) for clips in splits.values()))
    return table
