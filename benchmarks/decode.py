"""Decoding speed beside other libraries, and whether the loader keeps up with training.

    python benchmarks/decode.py                     # videos of nine kinds, drawn and encoded here
    python benchmarks/decode.py --clips FOLDER      # your own files, each a row
    python benchmarks/decode.py --patterns "8 segments" --rounds 5 --no-loader

First part: each installed library reads the frames of a pattern from one file on one decoding
thread. The readers take turns, and medians of CPU time are compared; every figure is a ratio to
plain sequential decoding with PyAV. Frames are compared bit by bit with those of a full decode.
Second part: clips per second of the training loader, from files and from a packed set, divided by
those of training steps.

The tables are written to benchmarks/results/decode.md.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np

from common import parse, parser, publish, table
from feeding import loaded, make_tree, pack_tree, trained
from readers import OF_FOLDERS, READERS, Choose, Frames, Reader, installed
from sample_videos import make_videos
from smnet.data.annotations.places import is_video
from smnet.data.sampling.rules import sample

PATTERNS: dict[str, Callable[[int], Any]] = {
    "8 segments": lambda n: sample(n, 8, mode="test"),
    "16 segments": lambda n: sample(n, 16, mode="test"),
    "dense, 8 of 64": lambda n: sample(n, 8, mode="test", strategy="dense"),
    "10 clips of 8": lambda n: sample(n, 8, mode="test", clips=10),
}
BASE = next(iter(READERS))


def chooser(pattern: str) -> Choose:
    return lambda count: np.unique(PATTERNS[pattern](count)).tolist()


def every_frame(path: Path) -> Frames:
    """All frames, decoded from the beginning."""
    if path.is_dir():
        return OF_FOLDERS[BASE](path, lambda count: range(count))
    with av.open(str(path), metadata_errors="ignore") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_type = "NONE"
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])


def readers_for(path: Path, versions: dict[str, str]) -> dict[str, Reader]:
    """The installed readers for a kind of path."""
    able = OF_FOLDERS if path.is_dir() else {name: reader for name, (reader, _) in READERS.items()}
    return {name: reader for name, reader in able.items() if versions[name][0].isdigit()}


def measure(
    path: Path, pattern: str, truth: Frames, readers: dict[str, Reader], rounds: int
) -> dict[str, dict[str, Any]]:
    """For each reader: CPU seconds (median), and whether its frames are right."""
    choose = chooser(pattern)
    right = truth[choose(len(truth))]
    times: dict[str, list[float]] = {name: [] for name in readers}
    found: dict[str, dict[str, Any]] = {name: {} for name in readers}
    for turn in range(rounds + 1):
        for name, reader in readers.items():
            if "error" in found[name]:
                continue
            began = time.process_time()
            try:
                frames = reader(path, choose)
            except Exception as error:  # whatever a library comes up with
                found[name]["error"] = f"{type(error).__name__}: {error}".splitlines()[0][:100]
                continue
            if turn:  # the first round warms up
                times[name].append(time.process_time() - began)
            else:
                found[name]["exact"] = np.array_equal(frames, right)
    for name, values in times.items():
        if values:
            found[name]["seconds"] = statistics.median(values)
    return found


def size_of(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def compare(
    videos: dict[str, Path], patterns: list[str], rounds: int, versions: dict[str, str]
) -> list[dict[str, Any]]:
    rows = []
    for kind, path in videos.items():
        truth = every_frame(path)
        readers = readers_for(path, versions)
        for pattern in patterns:
            found = measure(path, pattern, truth, readers, rounds)
            base = found[BASE].get("seconds")
            for result in found.values():
                if "seconds" in result:
                    result["clips_per_second"] = 1 / result["seconds"]
                    result["megabytes_per_second"] = size_of(path) / 1e6 / result["seconds"]
                    result["ratio"] = base / result["seconds"] if base else None
            rows.append({"video": kind, "pattern": pattern, "readers": found})
            print(f"{kind}, {pattern}: done", flush=True)
    return rows


def cell(row: dict[str, Any], name: str, absolute: bool) -> str:
    """A ratio; with ``absolute`` also clips/s and MB/s."""
    result = row["readers"].get(name)
    if result is None:
        return "-"
    if result.get("ratio") is None:
        return "fails"
    text = f"{result['ratio']:.2f}"
    if absolute:
        text += f" ({result['clips_per_second']:.0f}/s, {result['megabytes_per_second']:.1f} MB/s)"
    return text if result["exact"] else f"{text} wrong frames"


def decoding_table(rows: list[dict[str, Any]], versions: dict[str, str], absolute: bool) -> str:
    names = [name for name in READERS if versions[name][0].isdigit()]
    cells = [[r["video"], r["pattern"], *(cell(r, n, absolute) for n in names)] for r in rows]
    return table(["video", "frames", *names], cells)


def loader_rows(videos: dict[str, Path], folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Clips per second loaded and trained, at one size."""
    chosen = [path for path in videos.values() if path.is_file()][: given.loader_videos]
    tree = make_tree(chosen, folder / "tree", given.copies)
    sources = {"files": tree, "packed": pack_tree(tree, folder / "packed")}
    rates = {
        f"{name}, {workers} workers": loaded(path, workers, given.size, given.batch, epochs=3)
        for name, path in sources.items()
        for workers in given.workers
    }
    training = {name: trained(name, given.size, 4, given.threads, steps=3) for name in given.models}
    return {"size": given.size, "loaded": rates, "trained": training}


def loader_table(facts: dict[str, Any]) -> str:
    """Clips per second of the loader over those of each network."""
    cells = [
        [source, *(f"{rate / other:.1f}" for other in facts["trained"].values())]
        for source, rate in facts["loaded"].items()
    ]
    return table([f"clips loaded / trained, {facts['size']} pixels", *facts["trained"]], cells)


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument(
        "--clips", type=Path, help="a folder of video files, instead of drawn ones"
    )
    arguments.add_argument("--patterns", nargs="*", default=list(PATTERNS), choices=list(PATTERNS))
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--no-loader", action="store_true", help="the first part only")
    arguments.add_argument("--models", nargs="*", default=["tsn_resnet50", "smnet_resnet50"])
    arguments.add_argument("--size", type=int, default=112)
    arguments.add_argument("--batch", type=int, default=8)
    arguments.add_argument("--workers", type=numbers, default=[1, 2])
    arguments.add_argument("--threads", type=int, default=1, help="of the network")
    arguments.add_argument("--loader-videos", type=int, default=2, help="number of videos")
    arguments.add_argument("--copies", type=int, default=16, help="of each, in the loader's tree")
    given = parse(arguments)
    versions = installed()
    for name, number in versions.items():
        print(f"{name}: {number}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if given.clips:
            paths = sorted(p for p in given.clips.rglob("*") if is_video(p.name))
            videos = {str(path.relative_to(given.clips)): path for path in paths}
        else:
            (folder / "videos").mkdir()
            videos = make_videos(folder / "videos")
        rows = compare(videos, given.patterns, given.rounds, versions)
        loader = None if given.no_loader else loader_rows(videos, folder, given)
    print(f"\nratios to {BASE}, with clips/s and MB/s of file\n")
    print(decoding_table(rows, versions, absolute=True))
    if loader:
        print(f"\n{loader_table(loader)}\n\n{loader}")
    libraries = {**versions, "FFmpeg of PyAV": av.ffmpeg_version_info}
    text = ", ".join(f"{name} {number}" for name, number in libraries.items())
    title = f"Readers of video files, ratios to {BASE}"
    tables = [decoding_table(rows, versions, absolute=False)]
    tables += [loader_table(loader)] if loader else []
    publish(given, "decode", title, *tables, f"{text}.")


if __name__ == "__main__":
    main()
