"""``smnet embed`` and ``smnet find``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Called

pytest.importorskip("pyarrow")


def test_embed_then_find(
    smnet: Callable[..., Called], run: Path, clips: Path, tmp_path: Path
) -> None:
    index, checkpoint = tmp_path / "index", tmp_path / "best.safetensors"
    shutil.copy(run / "best.safetensors", checkpoint)
    npz = tmp_path / "vectors.npz"
    words = ("embed", checkpoint, clips / "val", "--out", index, "--workers", 1)
    called = smnet(*words, "--npz", npz)
    assert called.status == 0, called.err
    with np.load(npz) as archive:
        assert len(archive["vectors"]) == len(archive["paths"]) == 6
        assert archive["vectors"].dtype == np.float16
        assert np.isnan(archive["starts"]).all()
        assert "sha256" in json.loads(str(archive["settings"]))
    assert "exists" in smnet(*words, "--npz", npz).err
    assert "6 videos: 0 done before, 6 new" in called.out
    example = clips / "val" / "rising" / "0.mp4"
    called = smnet("find", example, "--in", index, "-k", 3, "--json")
    found = [json.loads(line) for line in called.out.splitlines()]
    assert len(found) == 3
    assert str(example) not in [match["path"] for match in found]

    copy = tmp_path / "copy.mp4"
    shutil.copy(example, copy)
    called = smnet("find", copy, "--in", index, "-k", 1, "--page", tmp_path / "found.html")
    assert (tmp_path / "found.html").read_text().count("<video") == 2
    assert called.status == 0, called.err
    assert called.out.splitlines()[1].split() == [str(example), "1.000"]
    duplicates = ("find", "--duplicates", "--threshold", 0.9999, "--in", index)
    assert "0 groups of near-duplicates" in smnet(*duplicates).err
    called = smnet("embed", checkpoint, clips / "val", copy, "--out", index, "--workers", 1)
    assert "7 videos: 6 done before, 1 new" in called.out
    called = smnet(*duplicates, "--json")
    assert [set(json.loads(line)) for line in called.out.splitlines()] == [
        {str(example), str(copy)}
    ]
    other, unlike = (clips / "val" / name / "1.mp4" for name in ("rising", "falling"))
    called = smnet("find", example, other, "--not", unlike, "--in", index, "-k", 10, "--json")
    found = {json.loads(line)["path"] for line in called.out.splitlines()}
    assert len(found) == 4
    assert not found & {str(example), str(other), str(unlike)}

    assert "give an example, or --duplicates" in smnet("find", "--in", index).err
    checkpoint.unlink()
    again = tmp_path / "again.mp4"
    shutil.copy(example, again)
    called = smnet("find", again, "--in", index)
    assert called.status == 1
    assert "give it with --from CHECKPOINT" in called.err
    assert smnet("find", again, "--in", index, "--from", run).status == 0


def test_a_vector_each_second(
    smnet: Callable[..., Called], run: Path, clips: Path, tmp_path: Path
) -> None:
    recording = clips / "val" / "rising" / "0.mp4"
    out = tmp_path / "index"
    called = smnet("embed", run, recording, "--every", 0.1, "--out", out, "--workers", 1)
    assert called.status == 0, called.err
    called = smnet("find", recording, "--in", out)
    assert "belongs to --every" in smnet("embed", run, recording, "--window", 1, "--out", out).err
