"""A timeline against the bare decoding of its video: seconds of CPU and of the clock, peak memory.

    python benchmarks/timeline.py --minutes 60

The network is tiny, so that decoding is the limit. Each measurement runs in a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import av
import numpy as np


def draw(path: Path) -> None:
    """A minute of 320x240 at 25 frames per second: a square over a texture that pans."""
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.uniform(-1, 1, (240, 640, 3)), axis=1)
    texture = (255 * (walk - walk.min()) / np.ptp(walk)).astype(np.uint8)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(60 * 25):
            left = round(160 + 150 * np.sin(number / 40))
            picture = texture[:, left : left + 320].copy()
            y, x = 2 * number % 200, 3 * number % 280
            picture[y : y + 30, x : x + 30] = (255, number % 256, 30)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        output.mux(stream.encode())


def repeat(minute: Path, path: Path, count: int) -> None:
    """Write the packets of a minute again and again, one minute after another."""
    with av.open(str(minute)) as source, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for number in range(count):
            source.seek(0)
            for packet in source.demux(video=0):
                if packet.pts is not None and packet.dts is not None and packet.time_base:
                    later = round(60 * number / packet.time_base)
                    packet.pts, packet.dts = packet.pts + later, packet.dts + later
                    packet.stream = stream
                    output.mux(packet)


def decode(path: str) -> str:
    """Decode the video in one thread, without converting its frames."""
    with av.open(path) as video:
        stream = video.streams.video[0]
        stream.thread_type = "NONE"
        return f"{sum(1 for _ in video.decode(stream))} frames"


def score(path: str) -> str:
    """The curves of the video by a tiny network."""
    import torch

    from smnet.inference.torch_backend import TorchBackend
    from smnet.models.registry import new_model
    from smnet.timeline.curves import RecordingUse
    from smnet.timeline.run import make_curves, settings

    torch.set_num_threads(1)
    model = new_model("tsn_resnet18", 4, 8, {"width": 8}).eval()
    model.spec = replace(model.spec, input_size=32, short_side=36)
    used = RecordingUse()
    make_curves(settings(TorchBackend(model, "cpu"), window=2.0, every=1.0), path, used)
    return str(used)


def measured(task: str, path: Path) -> str:
    """One line of a task that runs in a process of its own."""
    code = (
        "import resource, sys, time; sys.path.insert(0, sys.argv[1]); import timeline as t;"
        "c, w = time.process_time(), time.perf_counter(); said = getattr(t, sys.argv[2])"
        "(sys.argv[3]);"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024;"
        "print(f'{time.process_time() - c:.1f} s of CPU, {time.perf_counter() - w:.1f} s,"
        " peak {peak} MB; {said}')"
    )
    folder = str(Path(__file__).parent)
    words = [sys.executable, "-c", code, folder, task, str(path)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=10)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder:
        minute = Path(folder, "1.mp4")
        draw(minute)
        for length in (1, minutes):
            path = Path(folder, f"{length}.mp4")
            if length > 1:
                repeat(minute, path, length)
            print(f"{length} minutes")
            print("  decoding:", measured("decode", path))
            print("  timeline:", measured("score", path), flush=True)


if __name__ == "__main__":
    main()
