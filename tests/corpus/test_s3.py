"""A corpus in a bucket of S3, on a server of this machine; skipped without moto and s3fs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.corpus.test_run import SLOW_PREDICT, inbox, predict  # noqa: F401

pq = pytest.importorskip("pyarrow.parquet")
s3fs = pytest.importorskip("s3fs")
server = pytest.importorskip("moto.server")

pytestmark = pytest.mark.slow


@pytest.fixture
def bucket(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:  # noqa: F811
    """A bucket with the videos of the inbox below ``in/``."""
    running = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    s3fs.S3FileSystem.clear_instance_cache()
    files = s3fs.S3FileSystem()
    files.mkdir("bucket")
    for path in sorted(inbox.glob("*.mp4")):
        if path.exists():
            files.put_file(str(path), f"bucket/in/{path.name}")
    yield files
    running.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def rows(files: Any, name: str) -> dict[str, Any]:
    with files.open(f"bucket/{name}") as table:
        listed = pq.read_table(table).to_pylist()
    found = {row["path"]: row for row in listed}
    assert len(found) == len(listed)
    return found


def test_a_run_from_and_to_a_bucket_that_is_killed(run: Path, bucket: Any) -> None:
    whole = predict(run, "s3://bucket/whole", "s3://bucket/in/")
    assert whole.merged == {"predictions.parquet": 12, "unreadable.parquet": 1, "missing": 0}
    words = [str(run), "s3://bucket/in/", "--out", "s3://bucket/out", "--batch", "4"]
    command = [sys.executable, "-c", SLOW_PREDICT, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as killed:
        assert killed.stdout is not None
        for _ in range(6):
            killed.stdout.readline()
        os.killpg(killed.pid, signal.SIGKILL)
    again = predict(run, "s3://bucket/out", "s3://bucket/in/")
    assert again.done >= 4
    assert again.rows + again.done + again.lost == 13
    first, second = (rows(bucket, f"{name}/predictions.parquet") for name in ("whole", "out"))
    assert first.keys() == second.keys()
    for path, row in first.items():
        assert second[path]["key"] == row["key"]
        assert second[path]["scores"] == pytest.approx(row["scores"], abs=1e-5)
    assert rows(bucket, "out/unreadable.parquet").keys() == {"s3://bucket/in/broken.mp4"}
