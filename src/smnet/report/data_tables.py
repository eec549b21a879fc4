"""What the verbs of ``smnet data`` tell on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from smnet.console import printable
from smnet.data.checks.check import CheckReport, Finding
from smnet.data.checks.stats import Survey
from smnet.data.clips import ClipSet
from smnet.data.packing.pack import PackReport

_SHOWN_FINDINGS = 40
_SHOWN_CLASSES = 60


def print_clips(clips: ClipSet, rows: int) -> None:
    """The form of a data set, its classes and splits, and the first ``rows`` of each split."""
    names = [s for s in ("train", "val", "test") if s in clips.splits or s in clips.missing]
    console = _console()
    _say(console, f"{clips.root}: format {clips.format}")
    _say(console, f"because: {clips.why}")
    shown = ", ".join(clips.classes[:8])
    more = f" and {len(clips.classes) - 8} more" if len(clips.classes) > 8 else ""
    _say(console, f"{len(clips.classes)} classes: {shown}{more}\n")
    table = _table("split", "clips", "missing")
    for name in names:
        counts = (len(clips.splits.get(name, ())), len(clips.missing.get(name, ())))
        table.add_row(name, *map(str, counts))
    console.print(table)
    for name in names if rows else ():
        _say(console, f"\nfirst of {name}:")
        for clip in clips.splits.get(name, ())[:rows]:
            label = clips.classes[clip.label] if clip.label >= 0 else "no label"
            frames = f", {clip.num_frames} frames" if clip.num_frames else ""
            _say(console, printable(f"  {label}: {clip.path} ({clip.source}{frames})"))


def print_pack(report: PackReport) -> None:
    """What a packed set holds, and what it does not."""
    console = _console()
    skipped = report.manifest.skipped
    counts = ", ".join(f"{split} {count}" for split, count in report.manifest.splits.items())
    kept = f", {report.kept} of them by an earlier run" if report.kept else ""
    _say(
        console,
        f"{report.folder}: {many(report.clips, 'clip')} packed ({counts}){kept};"
        f" {report.bytes / 1e6:,.1f} MB in {many(len(report.manifest.shards), 'shard')},"
        f" {report.seconds:.1f} s",
    )
    if report.damaged:
        _say(console, f"{many(report.damaged, 'clip')} with lost or marred frames in the source")
    for clip in skipped[:_SHOWN_FINDINGS]:
        _say(console, printable(f"left out: {clip.source}: {clip.path}: {clip.reason}"))
    if len(skipped) > _SHOWN_FINDINGS:
        _say(console, f"... and {len(skipped) - _SHOWN_FINDINGS} more, all in manifest.json")
    if skipped and report.kept:
        _say(
            console, "an earlier run's choice stands: to try these again, pack into another folder"
        )


def print_check(report: CheckReport) -> None:
    """Counts by kind, and the first findings of each."""
    console = _console()
    found = report.clip_set
    _say(console, f"{found.root}: format {found.format} ({found.why})")
    rate = report.checked / max(report.seconds, 1e-9)
    how = "decoded" if report.decoded else "read without decoding"
    sound = sum(map(len, report.sound.values()))
    known = f" ({report.remembered} remembered, unchanged)" if report.remembered else ""
    _say(
        console,
        f"{many(report.checked, 'clip')} {how}{known} in {report.seconds:.1f} s,"
        f" {rate:.0f} a second; {sound} sound",
    )
    if not report.findings:
        _say(console, "nothing found")
        return
    table = _table("finding", "count")
    for kind, count in report.counts.items():
        table.add_row(kind, str(count))
    console.print()
    console.print(table)
    console.print()
    for finding in _choose(report):
        where = finding.source
        if finding.path and finding.path not in (where, ""):
            where += f" {finding.path}"
        _say(console, printable(f"{where}: {finding.kind}: {finding.message}"))
    if len(report.findings) > _SHOWN_FINDINGS:
        rest = len(report.findings) - _SHOWN_FINDINGS
        _say(console, f"… and {rest} more; --report FILE.csv has all")


def _choose(report: CheckReport) -> list[Finding]:
    """The first findings, with some of every kind: a thousand of one must not hide another."""
    share = max(_SHOWN_FINDINGS // max(len(report.counts), 1), 1)
    seen: dict[str, int] = {}
    first: list[int] = []
    later: list[int] = []
    for position, finding in enumerate(report.findings):
        seen[finding.kind] = seen.get(finding.kind, 0) + 1
        (first if seen[finding.kind] <= share else later).append(position)
    chosen = sorted((first + later)[:_SHOWN_FINDINGS])
    return [report.findings[position] for position in chosen]


def print_survey(survey: Survey) -> None:
    """Totals, spreads, kinds, and clips by class."""
    console = _console()
    found = survey.clip_set
    _say(console, f"{found.root}: format {found.format} ({found.why})")
    facts = survey.all
    total = sum(len(side) for side in survey.facts.values())
    gigabytes = sum(f.bytes for f in facts) / 1e9
    hours = sum(survey.seconds) / 3600
    _say(
        console,
        f"{many(total, 'clip')}, {hours:.2f} hours, {gigabytes:.3f} GB;"
        f" {survey.missing} missing, {survey.unreadable} unreadable,"
        f" {survey.problems} problems in the annotation",
    )
    table = _table("", "least", "25 %", "median", "75 %", "most")
    for name, spread in survey.spreads().items():
        if spread is not None:
            numbers = (spread.low, spread.q25, spread.median, spread.q75, spread.high)
            table.add_row(name, *(f"{number:.4g}" for number in numbers))
    console.print()
    console.print(table)
    console.print()
    for title, counts in survey.kinds().items():
        if counts:
            shown = ", ".join(f"{name} {count}" for name, count in list(counts.items())[:8])
            more = f", {len(counts) - 8} more" if len(counts) > 8 else ""
            _say(console, f"{title}: {shown}{more}")
    by_class = survey.by_class()
    table = _table("class", *found.splits)
    order = sorted(by_class.items(), key=lambda item: -sum(item[1].values()))
    half = _SHOWN_CLASSES // 2
    skipped = len(order) - _SHOWN_CLASSES
    for number, (name, row) in enumerate(order):
        if skipped <= 0 or number < half or number >= len(order) - half:
            table.add_row(escape(name), *map(str, row.values()))
        elif number == half:
            table.add_row(f"… {skipped} classes between; --json has all")
    table.add_section()
    table.add_row("all", *(str(len(side)) for side in found.splits.values()))
    console.print()
    console.print(table)


def _console() -> Console:
    return Console(highlight=False)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)


def _table(*columns: str) -> Table:
    table = Table(*columns, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def many(count: int, what: str) -> str:
    """``1 clip``, ``2 clips``."""
    return f"{count} {what}" + ("s" if count != 1 else "")
