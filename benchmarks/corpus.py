"""A corpus at scale: killed and racing runs beside an undisturbed one, memory, cost of the stages.

    python benchmarks/corpus.py scale --files 100000 --kills 20
    python benchmarks/corpus.py listing --files 100000
    python benchmarks/corpus.py race --files 10000
    python benchmarks/corpus.py nodes --files 3000
    python benchmarks/corpus.py search --files 1000000
    OMP_NUM_THREADS=1 python benchmarks/corpus.py throughput tsn_resnet50-224.onnx --videos 48

``scale`` links a few thousand small files under many names, 1 % of them bad in ten ways. One run is
left alone. Another is killed with SIGKILL at random moments, alone or with its workers, and started
again. Their tables are compared row by row. ``race`` starts several runs on one folder at once.
``listing`` runs the command where all is done, with invented rows: it lists the files, finds them
done and writes the merged tables. The network is untrained and tiny, so that listing, decoding and
writing are what costs.

``nodes`` runs on a Ray cluster of two nodes of this machine, and kills one of them when a third of
the rows has come.

``throughput`` compares the pipelines of ``smnet predict`` (a decoding thread), ``--out`` (a
decoding process) and ``--engine ray`` (two workers) with decoding alone and the network alone, in
turns, without their start. Each stage has one core. The network is a checkpoint, an exported file,
or the name of an untrained one: ``tiny.onnx``, or FAMILY-SIZE with the suffix ``.onnx`` or
``.safetensors``.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from common import parse, parser, publish, table
from sample_videos import make_videos
from smnet.checkpoints.save import Checkpoint, save_checkpoint
from smnet.corpus import engine
from smnet.corpus import run as corpus_run
from smnet.corpus.items import list_items
from smnet.corpus.results import Results
from smnet.corpus.run import prediction_work
from smnet.embed.approximate import Approximate
from smnet.embed.index import Index
from smnet.export.export import export
from smnet.inference.backends import open_backend, plan_views
from smnet.inference.pipeline import in_batches, read_in_processes, read_item
from smnet.inference.recognizer import Recognizer
from smnet.inference.utilisation import Utilisation
from smnet.models.registry import new_model

BAD = 100
"""One file in so many is bad."""
TABLES = ("predictions.parquet", "unreadable.parquet")


def write_clip(path: Path, seed: int) -> Path:
    """A clip of 8 frames, 48 x 48 pixels: a square that moves over noise."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(0, 160, (48, 48, 3), np.uint8)
    y, x, down, right = rng.integers(0, 32, 4)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=8, options={"preset": "ultrafast"})
        stream.width = stream.height = 48
        stream.pix_fmt = "yuv420p"
        for number in range(8):
            frame = ground.copy()
            top, left = (y + number * down) % 40, (x + number * right) % 40
            frame[top : top + 8, left : left + 8] = 255
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        output.mux(stream.encode())
    return path


def write_bad(folder: Path, good: Path) -> list[Path]:
    """One path for each of ten ways to be unreadable."""
    data = good.read_bytes()
    contents = {
        "empty": b"",
        "text": b"no video\n" * 40,
        "half": data[: len(data) // 2],
        "no-header": bytes(64) + data[64:],
        "noise": random.Random(0).randbytes(5000),
        "header-only": data[:40],
    }
    for name, content in contents.items():
        (folder / f"{name}.mp4").write_bytes(content)
    os.mkfifo(folder / "fifo.mp4")
    (folder / "dangling.mp4").symlink_to(folder / "nothing.mp4")
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    with av.open(str(folder / "sound.mp4"), "w") as output:
        stream = output.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 8000
        output.mux([*stream.encode(sound), *stream.encode()])
    return sorted(folder.iterdir())


def make_corpus(folder: Path, files: int, distinct: int) -> Path:
    """``files`` links in folders of 1,000; returns the folder of them."""
    originals, bad, links = folder / "originals", folder / "bad", folder / "links"
    for place in (originals, bad, links):
        place.mkdir(parents=True)
    clips = [write_clip(originals / f"{n}.mp4", n) for n in range(min(distinct, files))]
    wrong = write_bad(bad, clips[0])
    for number in range(files):
        place = links / f"{number // 1000:03}"
        place.mkdir(exist_ok=True)
        nth = number // BAD
        target = wrong[nth % len(wrong)] if number % BAD == 0 else clips[number % len(clips)]
        (place / f"{number:06}.mp4").symlink_to(target)
    return links


def save_network(folder: Path, name: str, segments: int, size: int, **options: int) -> Path:
    """An untrained network of 4 classes."""
    torch.manual_seed(0)
    model = new_model(name, 4, segments, options).eval()
    spec = replace(model.spec, input_size=size, short_side=size * 8 // 7)
    path = folder / f"{name}-{size}.safetensors"
    save_checkpoint(path, Checkpoint(spec, model.state_dict(), {}, {}))
    return path


def make_network(folder: Path) -> Path:
    """A tiny one as an ONNX file."""
    return export(save_network(folder, "tsn_resnet18", 2, 32, width=8)).path


def command(network: Path, source: Path | str, out: Path, *more: str) -> list[str]:
    """``smnet predict``, with parts of 500 rows instead of 2,000, so that kills fall among them."""
    program = (
        "from smnet.corpus import results; results.ROWS = 500; from smnet.cli.main import main;"
        " main()"
    )
    words = [sys.executable, "-c", program, "predict", str(network), str(source)]
    return [*words, "--out", str(out), *more]


def run(words: list[str]) -> tuple[str, float, int]:
    """What a command says, its seconds, and the peak memory of its first process in MB."""
    began, peak = time.monotonic(), 0
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(words, stdout=said)
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max([peak, *map(int, re.findall(r"VmHWM:\s*(\d+)", status))])
            time.sleep(0.2)
        said.seek(0)
        text = said.read()
    if process.returncode:
        raise SystemExit(f"exit {process.returncode}: {text}")
    return text, time.monotonic() - began, peak // 1024


def difference(whole: Path, other: Path) -> str:
    """Rows of two folders of results compared by key: counts, and the largest change of a score."""
    words = []
    for name in TABLES:
        tables = [pq.read_table(folder / name).sort_by("key") for folder in (whole, other)]
        keys = [t.column("key").to_pylist() for t in tables]
        assert len(set(keys[0])) == len(keys[0]), f"{name}: a key occurs twice"
        assert keys[0] == keys[1], f"{name}: other rows"
        first, second = tables
        words.append(f"{len(keys[0])} rows")
        names = {*first.column_names} - {"label", "labels", "score", "scores", "answer"}
        for column in names:
            assert first.column(column).equals(second.column(column)), f"{name}: {column} differs"
        if "scores" in first.column_names:
            scores = [np.array(t.column("scores").to_pylist()) for t in tables]
            apart = np.abs(scores[0] - scores[1]).max()
            # Classes whose scores are equal but for rounding may change places.
            ties = np.diff(scores[0], axis=1).max(1) > -1e-6
            labels = [np.array(t.column("labels").to_pylist())[~ties] for t in tables]
            assert (labels[0] == labels[1]).all(), f"{name}: labels differ"
            words[-1] += f", scores within {apart:.0e}, labels equal"
    return f"equal ({'; '.join(words)})"


def scale(given: argparse.Namespace) -> None:
    folder = Path(given.folder or tempfile.mkdtemp(prefix="corpus-"))
    network = make_network(folder)
    began = time.monotonic()
    links = make_corpus(folder, given.files, given.distinct)
    print(f"{given.files} links to {given.distinct} files: {time.monotonic() - began:.0f} s")
    rows = []
    for count in given.memory:
        listed = folder / f"first-{count}.txt"
        names = sorted(links.rglob("*.mp4"))[:count]
        listed.write_text("\n".join(map(str, names)))
        said, seconds, peak = run(command(network, f"@{listed}", folder / f"out-{count}"))
        rows.append([f"{count}", f"{seconds:.0f}", f"{count / seconds:.0f}", f"{peak}"])
        print(rows[-1], said, flush=True)
    whole, out = folder / "whole", folder / "killed"
    said, seconds, peak = run(command(network, links, whole))
    rows.append([f"{given.files}", f"{seconds:.0f}", f"{given.files / seconds:.0f}", f"{peak}"])
    print(said, rows[-1], flush=True)
    again, idle, peak = run(command(network, links, whole))
    rows.append([f"{given.files}, all done before", f"{idle:.0f}", "", f"{peak}"])
    print(again, rows[-1], flush=True)
    rng, lines = random.Random(given.seed), []
    for kill in range(given.kills):
        wait = idle + rng.uniform(0, 2 * seconds / given.kills)
        process = subprocess.Popen(
            command(network, links, out), start_new_session=True, stdout=-3, stderr=-1, text=True
        )
        try:
            process.wait(wait)
            raise SystemExit(f"run {kill} ended by itself: {process.stderr.read()}")
        except subprocess.TimeoutExpired:
            pass
        if kill % 2:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
        parts = sum(pq.read_metadata(p).num_rows for p in out.glob("*/*-*.parquet"))
        lines.append(f"{parts}")
        print(f"kill {kill + 1} after {wait:.1f} s: {parts} rows are written", flush=True)
    said, last, _ = run(command(network, links, out))
    print(said)
    text = (
        f"{given.kills} kills at random moments. Rows written after each: {', '.join(lines)}."
        f" The last run took {last:.0f} s: {said.splitlines()[0]}. Tables of the killed and of the"
        f" undisturbed run: {difference(whole, out)}."
    )
    header = ["videos", "seconds", "videos/s", "peak memory, MB"]
    publish(given, "corpus", f"{given.files} files, {given.kills} kills", table(header, rows), text)


def listing(given: argparse.Namespace) -> None:
    folder = Path(given.folder or tempfile.mkdtemp(prefix="corpus-"))
    network, out = make_network(folder), folder / "out"
    links = make_corpus(folder, given.files, given.distinct)
    backend = open_backend(str(network), "cpu")
    task = prediction_work(backend, plan_views(backend), network, 3).task
    results = Results(out, task.table, task.settings, task.columns)
    labels = {"label": "0", "score": 0.5, "labels": ["0", "1", "2"], "scores": [0.5, 0.3, 0.2]}
    with results.open():
        for item in list_items([str(links)]):
            results.add(item, {**labels, "answer": ["0"], "unknown": False, "damage": 0})
    said, seconds, peak = run(command(network, links, out))
    text = f"{said.splitlines()[0]}, in {seconds:.0f} s with the start, peak memory {peak} MB."
    publish(given, "corpus", f"Listing {given.files} files that are done", text)


def race(given: argparse.Namespace) -> None:
    """Three runs at once on one folder: the same twice, and a share of it."""
    folder = Path(given.folder or tempfile.mkdtemp(prefix="corpus-"))
    network = make_network(folder)
    links = make_corpus(folder, given.files, given.distinct)
    whole, out = folder / "whole", folder / "raced"
    run(command(network, links, whole))
    racing = [
        subprocess.Popen(command(network, links, out, *more), text=True, stdout=-1, stderr=-1)
        for more in ((), (), ("--share", "1/2"))
    ]
    said = [process.communicate() for process in racing]
    ended = [process.returncode for process in racing]
    refused = [err.splitlines()[-1] for (_, err), code in zip(said, ended, strict=True) if code]
    text = (
        f"Two equal commands and one with --share 1/2, at once: exit status {ended}. The message of"
        f" the second: {refused}. Tables and"
        f" those of one run: {difference(whole, out)}."
    )
    publish(given, "corpus", f"Runs that race, {given.files} files", text)


def nodes(given: argparse.Namespace) -> None:
    import ray
    from ray.cluster_utils import Cluster

    folder = Path(given.folder or tempfile.mkdtemp(prefix="corpus-"))
    network, whole, out = make_network(folder), folder / "whole", folder / "ray"
    links = make_corpus(folder, given.files, given.distinct)
    run(command(network, links, whole))
    os.environ.update(RAY_worker_niceness="0")  # 15 by default, which starves on a shared machine
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    node = cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False)
    times: list[float] = []
    stopped: list[str] = []

    class Watched(Results):
        def add(self, *row: Any) -> None:
            super().add(*row)
            times.append(time.perf_counter())
            if len(times) == given.files // 3:
                stopped.extend(workers_of(node))
                cluster.remove_node(node, allow_graceful=False)

    corpus_run.Results = Watched
    summary = engine.run_on_ray(str(network), [str(links)], out, device="cpu", top=3)
    ray.shutdown()
    cluster.shutdown()
    before, after = given.files // 3, len(times) - given.files // 3
    text = (
        f"{summary}. Killed with the second node: {', '.join(sorted(stopped))}. Videos per second"
        f" before and after: {before / (times[before - 1] - times[0]):.0f} and"
        f" {after / (times[-1] - times[before - 1]):.0f}, the longest pause"
        f" {max(b - a for a, b in pairwise(times)):.0f} s. Tables and those of one machine:"
        f" {difference(whole, out)}."
    )
    publish(given, "corpus", f"Ray, two nodes, one killed, {given.files} files", text)


def workers_of(node: Any) -> list[str]:
    """The titles of the stages that run on a node of this machine."""
    raylet = node.all_processes["raylet"][0].process.pid
    children = Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()
    titles = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]
    return [title.strip(b"\0").decode() for title in titles if b"MapWorker" in title]


ALONE = ("decoding", "network")
"""The stages that are measured without the other."""


@dataclass
class Turn:
    """What one pass over the videos took, seconds; of Ray from the first row to the last."""

    wall: float
    cpu: float
    videos: int


def stages(network: str, videos: list[str]) -> dict[str, Callable[[], object]]:
    """Decoding alone, the network alone, and the pipelines of both."""
    backend = open_backend(network, "cpu")
    recognizer = Recognizer(backend)
    work = prediction_work(backend, recognizer.plan, network)
    items = list(list_items(videos))
    read = partial(read_item, backend, recognizer.plan)
    views = np.stack([read(item)[1] for item in items[:8]])
    batches = len(items) // 8

    def processes() -> list[object]:
        ahead = read_in_processes(read, recognizer.plan.shape, items, 1, 24)
        return list(in_batches(ahead, 8, work.compute, Utilisation()))

    return {
        "decoding": lambda: [read(item) for item in items],
        "network": lambda: [work.compute(views) for _ in range(batches)],
        "threads": lambda: list(recognizer.predict_many(videos, workers=1)),
        "processes": processes,
    }


def timed(call: Callable[[], object], videos: int) -> Turn:
    began, before = time.perf_counter(), sum(os.times()[:4])
    call()
    return Turn(time.perf_counter() - began, sum(os.times()[:4]) - before, videos)


def on_ray(network: str, videos: list[str]) -> tuple[Turn, dict[str, float]]:
    """A pass on Ray, and the CPU seconds of the stages and of Ray itself meanwhile."""
    import ray

    settings = (network, "cpu", (1, 1), 5, 60.0)
    size = int(np.prod(plan_views(open_backend(network, "cpu")).shape))
    rows = engine._rows(ray, list(list_items(videos)), settings, size, 1, 1, False)
    seen: list[tuple[float, int, dict[str, float]]] = []  # seconds, rows and CPU when rows came
    for count, _ in enumerate(rows, start=1):
        now = time.perf_counter()
        if not seen or now - seen[-1][0] > 0.1:
            seen.append((now, count - 1, ray_cpu()))
    # The workers end while the last rows are still being read.
    while seen[-1][2]["decoding"] < seen[-2][2]["decoding"]:
        seen.pop()
    (began, first, before), (ended, last, after) = seen[1], seen[-1]
    used = {name: after[name] - before[name] for name in after}
    return Turn(ended - began, sum(used.values()), last - first), used


def ray_cpu() -> dict[str, float]:
    """CPU seconds so far of the stages, of this process, and of Ray's other processes."""
    used = {"decoding": 0.0, "network": 0.0, "driver": 0.0, "ray": 0.0}
    for place in Path("/proc").iterdir():
        try:
            words = (place / "cmdline").read_bytes().decode()
            times = (place / "stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            continue
        stage = "ray" if "ray" in words else ""
        stage = "decoding" if "(Decode)" in words else "network" if "(Compute)" in words else stage
        stage = "driver" if place.name == str(os.getpid()) else stage
        # A decoder is a child of its worker, with the same words.
        if stage:
            used[stage] += sum(map(int, times[11:13])) / os.sysconf("SC_CLK_TCK")
    return used


def network_of(name: str, place: Path) -> str:
    """The file of a network; an untrained one is made."""
    if Path(name).exists():
        return name
    if name == "tiny.onnx":
        return str(make_network(place))
    stem, _, suffix = name.rpartition(".")
    family, _, size = stem.rpartition("-")
    made = save_network(place, family, 8, int(size))
    return str(export(made).path if suffix == "onnx" else made)


def throughput(given: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        made = make_videos(place, ["H.264, GOP 12"])["H.264, GOP 12"]
        videos = []
        for number in range(given.videos):
            videos.append(str(place / f"link-{number}.mp4"))
            Path(videos[-1]).symlink_to(made)
        network = network_of(given.network, place)
        calls = stages(network, videos)
        turns: dict[str, list[Turn]] = {key: [] for key in (*calls, *(["ray"] * given.ray))}
        if given.ray:
            import ray

            ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
            ray.data.DataContext.get_current().enable_progress_bars = False
        shares = []
        for _ in range(given.rounds):
            for key, call in calls.items():
                turns[key].append(timed(call, len(videos)))
            if given.ray:
                turn, used = on_ray(network, 3 * videos)  # the first and last rows are left out
                turns["ray"].append(turn)
                shares.append({name: seconds / turn.wall for name, seconds in used.items()})
    each = {
        key: statistics.median(t.cpu / t.videos * 1000 for t in found)
        for key, found in turns.items()
    }
    slower = [
        max(turn.wall / turn.videos for turn in pair)
        for pair in zip(*(turns[key] for key in ALONE), strict=True)
    ]
    rows = []
    for key, found in turns.items():
        walls = [turn.wall / turn.videos for turn in found]
        rates = [alone / wall for alone, wall in zip(slower, walls, strict=True)]
        row = [key, f"{statistics.median(walls) * 1000:.1f}", f"{each[key]:.1f}"]
        both = each[key] / sum(each[stage] for stage in ALONE)
        row += ["", ""] if key in ALONE else [f"{both:.2f}", f"{statistics.median(rates):.2f}"]
        rows.append(row)
    header = ["", "ms per video", "ms of CPU", "CPU over both stages", "rate over the slower stage"]
    text = f"Medians of {given.rounds} turns with {given.videos} videos."
    if shares:
        busy = {name: statistics.median(s[name] for s in shares) for name in shares[0]}
        text += " Cores used on Ray: " + ", ".join(f"{n} {v:.2f}" for n, v in busy.items()) + "."
    title = f"Throughput, {Path(given.network).name}"
    publish(given, "corpus", title, table(header, rows), text)


def search(given: argparse.Namespace) -> None:
    """Drawn vectors: groups of 50 about centres of 40 dimensions, and noise in all of them."""
    folder = Path(given.folder or tempfile.mkdtemp(prefix="corpus-"))
    width, group = 3 * 171, 50
    if not (folder / "embeddings.parquet").exists():
        draw_vectors(folder / "embeddings.parquet", given.files, width, group)
    program = [sys.executable, "-m", "smnet", "find", "0.mp4", "--in", str(folder), "--json"]
    rows = []
    for name, option in (("exact", "--exact"), ("faiss", "--approximate"), ("faiss", "")):
        _, seconds, peak = run([*program, option] if option else [*program, "--approximate"])
        label = f"{name}, the first search" if option == "--approximate" else name
        rows.append([label, f"{seconds:.1f}", f"{peak}"])
        print(rows[-1], flush=True)
    index = Index.load(folder)
    near = Approximate(index, folder / "embeddings.parquet")
    wanted = np.random.default_rng(1).choice(len(index), 50, replace=False)
    queries = index.unit(wanted)
    close = np.concatenate([block @ queries.T for block in index.blocks()])
    exact = [set(np.argpartition(-scores, 10)[:10].tolist()) for scores in close.T]
    began = time.perf_counter()
    found = [index.find(query, candidates=near) for query in queries]
    each = (time.perf_counter() - began) / len(queries)
    hits = [len({m.row for m in some} & best) for some, best in zip(found, exact, strict=True)]
    size = (folder / "nearest.faiss").stat().st_size / 1e6
    text = (
        f"{given.files} vectors of {width} float16 values. Seconds and memory are of the command,"
        f" with its start. A further search with faiss in one process takes {each * 1000:.0f} ms."
        f" Recall@10 against the exact search, {len(found)} searches:"
        f" {np.mean(hits) / 10:.3f}. nearest.faiss has {size:.0f} MB."
    )
    title = f"Search among {given.files} vectors"
    publish(given, "corpus", title, table(["smnet find", "seconds", "peak MB"], rows), text)


def draw_vectors(path: Path, count: int, width: int, group: int) -> None:
    """A table as ``smnet embed`` writes it."""
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(40, width)).astype(np.float32)
    kind = pa.list_(pa.float16(), width)
    times = [("start", pa.float64()), ("end", pa.float64()), ("unit", pa.string())]
    schema = pa.schema([("path", pa.string()), *times, ("vector", kind)])
    with pq.ParquetWriter(path, schema, use_dictionary=["path", "unit"]) as writer:
        for first in range(0, count, 10_000):
            some = min(10_000, count - first)
            centres = rng.normal(size=(-(-some // group), 40)).astype(np.float32)
            near = np.repeat(centres, group, axis=0)[:some]
            near += 0.5 * rng.normal(size=near.shape).astype(np.float32)
            values = near @ basis + rng.normal(size=(some, width)).astype(np.float32)
            flat = pa.array(values.astype(np.float16).ravel())
            nothing = pa.nulls(some)
            columns = [
                pa.array([f"{n}.mp4" for n in range(first, first + some)]),
                *(nothing.cast(of_time) for _, of_time in times),
                pa.FixedSizeListArray.from_arrays(flat, width),
            ]
            writer.write_table(pa.table(columns, schema=schema))


TASKS = {
    "scale": scale,
    "listing": listing,
    "race": race,
    "nodes": nodes,
    "throughput": throughput,
    "search": search,
}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("task", choices=tuple(TASKS))
    arguments.add_argument("network", nargs="?", default="tiny.onnx", help="of throughput")
    arguments.add_argument("--ray", action="store_true", help="measure throughput on Ray, too")
    arguments.add_argument("--files", type=int, default=100_000)
    arguments.add_argument("--distinct", type=int, default=2000, help="encoded files")
    arguments.add_argument("--kills", type=int, default=20)
    arguments.add_argument("--memory", type=int, nargs="*", default=[1000, 10_000])
    arguments.add_argument("--videos", type=int, default=120, help="of throughput")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--folder", help="of files and results. Default: a temporary one")
    given = parse(arguments)
    TASKS[given.task](given)


if __name__ == "__main__":
    main()
