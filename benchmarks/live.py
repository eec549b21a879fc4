"""Live streams under load, and events of a film against its clips.

    python benchmarks/live.py load [--model smnet_resnet18] [--size 112] [--seconds 20]
    python benchmarks/live.py events CHECKPOINT DATA [--high 0.5] [--shortest 0.5]

``load`` measures what the network can bear, and streams frames at half, twice and ten times that
rate: delays, and what is dropped. ``events`` joins the held-back clips of a data set into one film
with still gaps, streams it, and compares the events with the clips.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from smnet.checkpoints.file import Checkpoint, save_checkpoint
from smnet.data.annotations.read import read_clips
from smnet.data.open import open_video
from smnet.inference.recognizer import Recognizer
from smnet.live.capture import Sample
from smnet.live.events import Event
from smnet.live.scoring import open_scorer
from smnet.live.watch import watch
from smnet.models import create_model
from smnet.timeline.segments import Limits

LOADS = (0.5, 2.0, 10.0)
"""Times what the network can bear."""
FPS = 12
GAP = (12, 30)
"""Still frames before each clip of the film, from and to."""

Frames = NDArray[np.uint8]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    tasks = parser.add_subparsers(dest="task", required=True)
    load_ = tasks.add_parser("load")
    load_.add_argument("--model", default="smnet_resnet18")
    load_.add_argument("--size", type=int, default=112)
    load_.add_argument("--seconds", type=float, default=20)
    events_ = tasks.add_parser("events")
    events_.add_argument("checkpoint")
    events_.add_argument("data")
    events_.add_argument("--high", type=float, default=0.5)
    events_.add_argument("--shortest", type=float, default=0.5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.task == "load":
            load(given.model, given.size, given.seconds, Path(folder))
        else:
            limits = Limits(given.high, 0.6 * given.high, given.shortest)
            events(given.checkpoint, given.data, limits, Path(folder))


def load(name: str, size: int, seconds: float, folder: Path) -> None:
    """Print a table of delays and drops."""
    model = create_model(name, 174, 8, causal=True)
    model.spec = replace(model.spec, input_size=size, short_side=size, rate=4.0)
    checkpoint = folder / "model.safetensors"
    save_checkpoint(checkpoint, Checkpoint(model.spec, model.state_dict()))
    header = "mode load frames/s ticks used dropped restarts answers median,s p99,s longest,s"
    print(f"| {' | '.join(header.split())} |\n|{' --- |' * len(header.split())}")
    for mode in ("window", "causal"):
        cost = seconds_per_answer(checkpoint, mode)
        for factor in LOADS:
            rate = min(factor / cost, 240.0)
            film = folder / "film.mp4"
            frames = np.random.default_rng(0).integers(0, 255, (24, 120, 160, 3), np.uint8)
            write_film(film, [frames] * (1 + round(rate * seconds / 24)), rate)
            stream = watch(checkpoint, str(film), mode=mode, rate=rate, realtime=True, device="cpu")
            delays = [answer.delay for answer in stream if answer.labels]
            counts = stream.counts
            cells = [mode, f"{factor:g}", f"{rate:.1f}", counts.used + counts.dropped, counts.used]
            cells += [counts.dropped, counts.restarts, len(delays)]
            cells += [f"{q:.2f}" for q in np.percentile(delays or [np.nan], (50, 99, 100))]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


def seconds_per_answer(checkpoint: Path, mode: str) -> float:
    """What one answer takes, once the window is full."""
    scorer = open_scorer(checkpoint, mode, "cpu")
    view = scorer.prepare(np.zeros((120, 160, 3), np.uint8))
    times = []
    for _ in range(scorer.spec.num_segments + 8):
        began = time.perf_counter()
        scorer.add(Sample(0.0, 0.0, view[None]))
        scorer.scores()
        times.append(time.perf_counter() - began)
    return float(np.median(times[-8:]))


@dataclass(frozen=True)
class Shown:
    """A clip of the film: its label, and when it is shown, seconds."""

    label: str
    start: float
    end: float

    def overlaps(self, event: Event) -> bool:
        return event.start < self.end and (event.end or event.start) > self.start


def events(checkpoint: str, data: str, limits: Limits, folder: Path) -> None:
    """Print how many clips are found as events, beside their accuracy as clips."""
    clips = read_clips(data)
    rows = list(clips.splits["val"])
    rng = np.random.default_rng(0)
    rng.shuffle(rows)
    film, shown, parts = folder / "film.mp4", [], []
    moment = 0
    recognizer, right = Recognizer.load(checkpoint, "cpu"), 0
    for clip in rows:
        with open_video(clip.path) as video:
            frames = video.read(np.arange(video.num_frames))
        label = clips.classes[clip.label]
        right += recognizer.predict(frames).labels[0] == label
        gap = int(rng.integers(*GAP, endpoint=True))
        parts += [frames[:1].repeat(gap, 0), frames]
        start = moment + gap
        moment = start + len(frames)
        shown.append(Shown(label, start / FPS, moment / FPS))
    write_film(film, parts, FPS)
    stream = watch(checkpoint, str(film), limits=limits, device="cpu")
    found = [e for answer in stream for e in answer.events if e.type == "end"]
    hits = [any(e.label == s.label and s.overlaps(e) for e in found) for s in shown]
    good = [any(e.label == s.label and s.overlaps(e) for s in shown) for e in found]
    print(f"{stream.scorer.spec.name}, {stream.scorer.mode}, {stream.rate:.3g} frames/s")
    print(f"clips by themselves: {right} of {len(rows)} right ({right / len(rows):.1%})")
    print(f"clips with an event of their label: {sum(hits)} of {len(rows)} ({np.mean(hits):.1%})")
    print(f"events of the label of a clip they touch: {sum(good)} of {len(found)}")


def write_film(path: Path, parts: list[Frames], rate: float) -> None:
    """Write frames (T, H, W, 3), one part after another, at a rate."""
    with av.open(str(path), "w") as output:
        base = Fraction(1, 90_000)
        stream = output.add_stream("libx264", rate=max(1, round(rate)), options={"crf": "16"})
        stream.height, stream.width = parts[0].shape[1:3]
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", base
        for number, picture in enumerate(frame for part in parts for frame in part):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(number / rate / base), base
            output.mux(stream.encode(frame))
        output.mux(stream.encode())


if __name__ == "__main__":
    main()
