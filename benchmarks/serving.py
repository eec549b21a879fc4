"""The server under load: right answers, immediate refusals, memory, throughput, and its end.

    python benchmarks/serving.py best.onnx clips/                # two minutes of load
    python benchmarks/serving.py best.onnx clips/ --seconds 300

The server is a process of its own, `smnet serve`. First its throughput is measured in turns with
`smnet predict` on the same files: with 16 clients, in wall time and in CPU time of all processes.
Then 64 clients send requests at twice that throughput, each over a new connection. Every answer is
compared with that of Python. At last SIGTERM is sent under that load.
"""

from __future__ import annotations

import http.client
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from common import parse, parser, publish, table
from smnet.inference.recognizer import Recognizer
from smnet.system import describe_machine

CLIENTS, SERIAL = 64, 16
ROUNDS, REPEATS = 3, 8
SUFFIXES = (".mp4", ".webm", ".avi", ".mkv")
TOLERANCE = 1e-4


class Server:
    """``smnet serve`` in a process."""

    def __init__(self, network: str, folder: str) -> None:
        words = [sys.executable, "-m", "smnet", "serve", network, "--port", "0"]
        environment = {**os.environ, "TMPDIR": folder}
        self.process = subprocess.Popen(
            words, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        assert self.process.stderr is not None
        line = ""
        while "page and server" not in line:
            line = self.process.stderr.readline()
            assert line, "the server did not start"
        self.port = int(line.partition("127.0.0.1:")[2].partition("/")[0])

    def ask(self, content: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer for a video."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            headers = {"Content-Type": "video/mp4", "Connection": "close"}
            connection.request("POST", "/v1/predict", content, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def processes(self) -> list[int]:
        """The server and its workers."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if os.getpgid(int(path.name)) == self.process.pid:
                    found.append(int(path.name))
        return found

    def memory(self) -> float:
        """MB of the server and its workers; what they share is counted once (PSS)."""
        size = 0
        for process in self.processes():
            with suppress(OSError, StopIteration):
                lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
                size += int(next(line for line in lines if line.startswith("Pss:")).split()[1])
        return size / 1e3

    def seconds(self) -> float:
        """CPU time of the server and its workers."""
        ticks = 0
        for process in self.processes():
            with suppress(OSError):
                words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
                ticks += int(words[11]) + int(words[12])
        return ticks / os.sysconf("SC_CLK_TCK")


@dataclass
class Seen:
    """What clients saw."""

    statuses: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def one(server: Server, path: Path, expected: dict[Path, tuple[str, float]], seen: Seen) -> None:
    began = time.monotonic()
    try:
        status, headers, body = server.ask(path.read_bytes())
    except OSError as error:
        with seen.lock:
            seen.statuses[type(error).__name__] += 1
        return
    except http.client.HTTPException as error:
        with seen.lock:
            seen.statuses[type(error).__name__] += 1
        return
    took = time.monotonic() - began
    with seen.lock:
        seen.statuses[str(status)] += 1
        if status == 200:
            result = json.loads(body)["results"][0]
            label, score = expected[path]
            seen.wrong += result["label"] != label or abs(result["score"] - score) > TOLERANCE
            seen.accepted.append(took)
        elif status == 503:
            seen.wrong += "retry-after" not in {name.lower() for name in headers}
            seen.refused.append(took)
        else:
            seen.wrong += 1


def closed(server: Server, paths: list[Path]) -> tuple[float, float]:
    """Wall and CPU seconds for all files, with a fixed number of clients."""
    began, used = time.monotonic(), server.seconds()
    with ThreadPoolExecutor(SERIAL) as pool:
        statuses = Counter(pool.map(lambda path: server.ask(path.read_bytes())[0], paths))
    assert set(statuses) == {200}, statuses
    return time.monotonic() - began, server.seconds() - used


def predict(network: str, paths: list[Path], folder: Path) -> tuple[float, float]:
    """The same with ``smnet predict``, with its start."""
    listing = folder / "list.txt"
    listing.write_text("\n".join(map(str, paths)))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    words = [sys.executable, "-m", "smnet", "predict", network, f"@{listing}", "--json"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = sum(after[:2]) - sum(before[:2])
    return time.monotonic() - began, used


def load(
    server: Server,
    paths: list[Path],
    expected: dict[Path, tuple[str, float]],
    rate: float,
    seconds: float,
) -> Seen:
    """Requests at a rate, whatever becomes of them, until the time is over or the server ends."""
    seen, begin = Seen(), time.monotonic()

    def client(number: int) -> None:
        count = 0
        while True:
            due = begin + (number + count * CLIENTS) / rate
            if due - begin > seconds or server.process.returncode is not None:
                return
            time.sleep(max(due - time.monotonic(), 0.0))
            one(server, paths[(number + count) % len(paths)], expected, seen)
            count += 1

    threads = [threading.Thread(target=client, args=(k,), daemon=True) for k in range(CLIENTS)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if server.process.poll() is None:
            seen.memory.append(server.memory())
        time.sleep(2.0)
    return seen


def shares(values: list[float]) -> str:
    if not values:
        return "none"
    ordered = sorted(values)
    picked = [ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.99, 1.0)]
    return " / ".join(f"{1000 * value:.0f}" for value in picked)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("network", help="an exported file")
    made.add_argument("clips", type=Path, help="a folder of videos")
    made.add_argument("--seconds", type=float, default=120.0, help="of the load")
    given = parse(made)
    files = sorted(path for path in given.clips.rglob("*") if path.suffix in SUFFIXES)
    recognizer = Recognizer.load(given.network, "cpu")
    found = {path: recognizer.predict(path) for path in files}
    expected = {path: (p.label, p.score) for path, p in found.items() if not p.error}
    files = list(expected)
    with TemporaryDirectory() as folder, TemporaryDirectory() as copies:
        # predict reads a file once, however often it is named.
        many = [
            Path(shutil.copyfile(path, Path(copies, f"{number}-{path.name}")))
            for number in range(max(REPEATS * SERIAL // len(files), 1))
            for path in files
        ]
        server = Server(given.network, folder)
        closed(server, files[:SERIAL])  # warm
        start = [predict(given.network, files[:1], Path(folder)) for _ in range(2)]
        wall, used = (min(values) for values in zip(*start, strict=True))
        rounds = []
        for _ in range(ROUNDS):
            served = closed(server, many)
            alone = predict(given.network, many, Path(folder))
            rounds.append((*served, alone[0] - wall, alone[1] - used))
        columns = [median(values) for values in zip(*rounds, strict=True)]
        rate = len(many) / columns[0]
        seen = load(server, files, expected, 2 * rate, given.seconds)
        third = len(seen.memory) // 3
        memory = [median(part) for part in (seen.memory[:third], seen.memory[-third:])]
        timer = threading.Timer(5.0, server.process.send_signal, [signal.SIGTERM])
        timer.start()
        ending = load(server, files, expected, 2 * rate, 15.0)
        status = server.process.wait(120)
        left = [path.name for path in Path(folder).glob("smnet*")]
    ratios = [
        [f"{len(many) / value:.1f}" for value in (columns[0], columns[2])]
        + [f"{median(r[2] / r[0] for r in rounds):.2f}"],
        [f"{1000 * value / len(many):.1f}" for value in (columns[1], columns[3])]
        + [f"{median(r[3] / r[1] for r in rounds):.2f}"],
    ]
    publish(
        given,
        "serving",
        f"{given.seconds:g} s of load: {Path(given.network).name}",
        f"{len(files)} clips, {SERIAL} clients for the throughput ({len(many)} requests a round,"
        f" {ROUNDS} rounds), {CLIENTS} clients at {2 * rate:.1f} requests per second for the load.",
        table(
            ["", "smnet serve", "smnet predict, without its start", "ratio"],
            [["clips per second", *ratios[0]], ["CPU ms per clip", *ratios[1]]],
        ),
        table(
            ["under load", ""],
            [
                ["answers by status", ", ".join(f"{v} x {k}" for k, v in seen.statuses.items())],
                ["wrong answers", str(seen.wrong)],
                ["accepted, ms: median / 99 % / most", shares(seen.accepted)],
                ["refused, ms: median / 99 % / most", shares(seen.refused)],
                ["memory, MB: first third / last third", " / ".join(f"{m:.0f}" for m in memory)],
            ],
        ),
        table(
            ["SIGTERM under load", ""],
            [
                ["answers by status", ", ".join(f"{v} x {k}" for k, v in ending.statuses.items())],
                ["wrong answers", str(ending.wrong)],
                ["exit status", str(status)],
                ["left in its temporary folder", ", ".join(left) or "nothing"],
            ],
        ),
    )
    print(describe_machine())


if __name__ == "__main__":
    main()
