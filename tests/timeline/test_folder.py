"""Timelines of a folder: those of the recordings alone, and one row for a decoder that crashes."""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from smnet.corpus.items import list_items
from smnet.data.loading.windows import Frames, WindowReader
from smnet.inference.backends import open_backend
from smnet.inference.utilisation import Utilisation
from smnet.timeline.curves import score_recording
from smnet.timeline.folder import curves_of
from smnet.timeline.run import settings


def crashes_in(monkeypatch: pytest.MonkeyPatch, name: str, after: int = 1) -> None:
    """Decoding a recording of this name ends its process after some groups of frames."""
    decode = WindowReader.decode

    def crash(reader: WindowReader) -> Iterator[Frames]:
        for number, frames in enumerate(decode(reader)):
            if number == after and Path(reader._video.path).name == name:
                faulthandler.disable()
                os.kill(os.getpid(), signal.SIGSEGV)
            yield frames

    monkeypatch.setattr(WindowReader, "decode", crash)


def test_a_decoder_that_crashes_is_one_row(
    network: Path, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashes_in(monkeypatch, "b.mp4")
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (tmp_path / name).symlink_to(film)
    (tmp_path / "d.mp4").write_bytes(b"no film")
    chosen = settings(open_backend(network, "cpu"), window=1.0, every=0.5)
    items = list_items([str(tmp_path)])
    found = {
        Path(item.path).name: (read, curves)
        for item, read, curves in curves_of(chosen, items, Utilisation(threads=2), 20.0)
    }
    assert sorted(found) == ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]
    read, curves = found["b.mp4"]
    assert (read.stage, curves) == ("decoding", None)
    assert "b.mp4: the process working on it died (SIGSEGV)" in read.reason
    assert found["d.mp4"][0].stage == "decoding"
    alone = score_recording(chosen.backend, chosen.plan, str(film), 1.0, 0.5)
    for name in ("a.mp4", "c.mp4"):
        read, curves = found[name]
        assert (read.stage, read.damage) == ("", 0)
        assert curves is not None
        assert curves.times == pytest.approx(alone.times)
        assert curves.duration == alone.duration
        assert np.abs(curves.scores - alone.scores).max() < 1e-5
