"""What holds at every door: each promise is tested for every verb that it concerns."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Called

Smnet = Callable[..., Called]

# Verbs that read clips. DATA is a data set, CLIP one of its clips.
READERS = {
    "predict": "predict RUN CLIP",
    "explain": "explain RUN CLIP",
    "live": "live RUN CLIP --device cpu",
    "timeline": "timeline RUN CLIP --device cpu",
    "serve": "serve CLIP --port 0",
    "evaluate": "evaluate RUN --data DATA --workers 0",
    "train": "train --data DATA --out OUT/run model=smnet_resnet18 epochs=1 options.width=8"
    " size=32 segments=2 weights=none workers=0 batch=2 warmup=0 device=cpu",
    "adapt": "adapt DATA --from RUN --minutes 0 --out OUT/adapted workers=0 device=cpu",
    "label": "label DATA --from RUN --out OUT/labels.csv --no-browser",
    "compare": "compare --models tsn_resnet18 --data DATA --out OUT/compare epochs=1",
    "export": "export RUN --out OUT/m.onnx --calibration DATA",
    "data show": "data show DATA",
    "data check": "data check DATA --workers 1",
    "data stats": "data stats DATA --workers 1",
    "data pack": "data pack DATA OUT/packed --workers 1",
    "data join": "data join DATA OUT/film.mp4",
}
readers = pytest.mark.parametrize("verb", READERS)


def words(verb: str, run: Path, data: Path, out: Path) -> list[str]:
    clip = data / "val" / "rising" / "0.mp4"
    names = {"RUN": run, "DATA": data, "CLIP": clip if data.is_dir() else data}
    line = [str(names.get(word, word)) for word in READERS[verb].split()]
    return [word.replace("OUT/", f"{out}/") for word in line]


def one_line(called: Called) -> None:
    assert called.status == 1, called
    lines = [line for line in called.err.splitlines() if line.startswith("smnet: ")]
    assert len(lines) == 1, called.err
    assert "Traceback" not in called.err
    assert "SMNET_TRACEBACK" not in called.err, called.err


@readers
def test_what_does_not_exist_is_refused(smnet: Smnet, run: Path, tmp_path: Path, verb: str) -> None:
    called = smnet(*words(verb, run, tmp_path / "nowhere", tmp_path))
    one_line(called)
    assert "nowhere" in called.err
    assert list(tmp_path.iterdir()) == []


@readers
def test_a_broken_link_is_reported(
    smnet: Smnet, run: Path, clips: Path, tmp_path: Path, verb: str
) -> None:
    """In a folder as in a list: a clip that is not there is named."""
    data = tmp_path / "data"
    shutil.copytree(clips, data)
    broken = data / "val" / "rising" / "0.mp4"
    broken.unlink()
    broken.symlink_to(tmp_path / "moved" / "0.mp4")
    if verb in (
        "train",
        "adapt",
        "label",
        "compare",
        "export",
    ):  # these go on without a validation clip, or refuse
        pytest.skip("covered by the reading of the data set: data show")
    called = smnet(*words(verb, run, data, tmp_path))
    assert called.status == 0 if verb in ("data show", "data stats") else called.status == 1
    missing = ["val", "1", "1"] in [line.split() for line in called.out.splitlines()]
    assert missing or "1 missing" in called.out or "0.mp4" in called.out + called.err


# Verbs that read parts of recordings. PARTS is a csv of parts, CLIP one of its files.
PARTED = {
    "predict": "predict RUN CLIP --start START --end 0.2",
    "predict @list": "predict RUN @PARTS",
    "explain": "explain RUN CLIP --start START --end 0.2",
    "evaluate": "evaluate RUN --data PARTS --workers 0",
    "data show": "data show PARTS",
    "data check": "data check PARTS --workers 1",
    "data stats": "data stats PARTS --workers 1",
    "data pack": "data pack PARTS OUT/packed --workers 1 --frames all",
    "data join": "data join PARTS OUT/film.mp4",
}


def parted(verb: str, run: Path, clips: Path, out: Path, start: float) -> list[str]:
    """The words of a verb; the validation parts begin at a time."""
    rows = ["path,label,split,start,end"]
    for split in ("train", "val"):
        for path in sorted((clips / split).rglob("*.mp4")):
            begin = start if split == "val" else 0.0
            rows.append(f"{path},{path.parent.name},{split},{begin},0.2")
    parts = out / "parts.csv"
    parts.write_text("\n".join(rows) + "\n")
    clip = clips / "val" / "rising" / "0.mp4"
    line = PARTED[verb].replace("PARTS", str(parts)).replace("OUT/", f"{out}/")
    names = {"RUN": str(run), "CLIP": str(clip), "START": str(start)}
    return [names.get(word, word) for word in line.split()]


@pytest.mark.parametrize("verb", PARTED)
def test_parts_are_read(smnet: Smnet, run: Path, clips: Path, tmp_path: Path, verb: str) -> None:
    called = smnet(*parted(verb, run, clips, tmp_path, 0.0))
    assert called.status == 0, called


@pytest.mark.parametrize("verb", [v for v in PARTED if v not in ("data show", "data stats")])
def test_a_part_that_ends_before_it_begins_is_refused(
    smnet: Smnet, run: Path, clips: Path, tmp_path: Path, verb: str
) -> None:
    called = smnet(*parted(verb, run, clips, tmp_path, 0.5))
    assert called.status == 1, called
    assert "0.5" in called.out + called.err
    assert "Traceback" not in called.err


# Verbs that read a table. PARTS is a csv with a column that changes the meaning of its rows.
TABLES = {
    **{
        v: line.replace("DATA", "PARTS")
        for v, line in READERS.items()
        if " DATA" in line and v != "label"
    },
    "predict @list": "predict RUN @PARTS",
    "evaluate --recordings": "evaluate RUN --data PARTS --recordings",
    "evaluate --live": "evaluate RUN --data PARTS --recordings --live",
    "evaluate --unknown": "evaluate RUN --data DATA --unknown PARTS --workers 0",
    "timeline --calibrate": "timeline RUN --calibrate PARTS --thresholds OUT/t.json",
}


@pytest.mark.parametrize("verb", TABLES)
def test_a_column_that_changes_a_row_is_refused(
    smnet: Smnet, run: Path, clips: Path, tmp_path: Path, verb: str
) -> None:
    """No door reads a csv in another way."""
    parts = tmp_path / "parts.csv"
    files = [(p, split) for split in ("train", "val") for p in (clips / split).rglob("*.mp4")]
    rows = [f"{path},{path.parent.name},{split},0,0.2,10" for path, split in files]
    parts.write_text("\n".join(["path,label,split,start,end,x_min", *rows, ""]))
    names = {"RUN": str(run), "DATA": str(clips), "PARTS": str(parts), "@PARTS": f"@{parts}"}
    line = TABLES[verb].replace("OUT/", f"{tmp_path}/").split()
    called = smnet(*(names.get(word, word) for word in line))
    one_line(called)
    assert "the column 'x_min' means a part of the picture" in called.err


# Verbs with several outputs: what they print is lost with the pipe, the files are not.
OUTPUTS = {
    "evaluate": ("evaluate RUN --data DATA --workers 0 --predictions OUT/p.csv", "p.csv"),
    "data check": ("data check DATA --workers 1 --report OUT/r.json --fix-list OUT/f.csv", "f.csv"),
    "predict": ("predict RUN DATA/val/rising/0.mp4 --annotate OUT/a.mp4", "a.mp4"),
    "timeline": ("timeline RUN DATA/val/rising/0.mp4 --out OUT/t.html", "t.html"),
}


@pytest.mark.slow
@pytest.mark.parametrize("verb", OUTPUTS)
def test_files_are_written_although_the_pipe_is_closed(
    run: Path, clips: Path, tmp_path: Path, verb: str
) -> None:
    line, file = OUTPUTS[verb]
    for name, place in (("RUN", run), ("DATA", clips), ("OUT", tmp_path)):
        line = line.replace(name, str(place))
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "smnet", *line.split()], stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    assert done.returncode == 141, done.stderr
    assert (tmp_path / file).stat().st_size


def small_disk(tmp_path: Path, kilobytes: int) -> Path:
    """A file system of so many kilobytes; skipped where this process cannot mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs root and the right to mount")
    return place


FULL = {
    "train": (READERS["train"], 400),
    "evaluate": ("evaluate RUN --data DATA --workers 0 --predictions OUT/p.csv", 0),
    "data check": ("data check DATA --workers 1 --report OUT/r.csv", 0),
    "data pack": ("data pack DATA OUT/packed --workers 1 --frames all", 8),
    "data join": ("data join DATA OUT/film.mp4", 0),
    "export": ("export UNTRAINED --out OUT/m.pt2 --to torch", 100),
    "predict": ("predict RUN CLIP --annotate OUT/a.mp4", 0),
}


@pytest.mark.slow
@pytest.mark.parametrize("verb", FULL)
def test_a_full_disk_is_one_line(
    smnet: Smnet, run: Path, untrained: Path, clips: Path, tmp_path: Path, verb: str
) -> None:
    line, free = FULL[verb]
    disk = small_disk(tmp_path, 1024)
    try:
        with (disk / "filler").open("wb") as filler:
            filler.write(bytes(1024 * (1020 - free)))
        names = {"RUN": run, "UNTRAINED": untrained, "DATA": clips}
        names["CLIP"] = clips / "val" / "rising" / "0.mp4"
        filled = [str(names.get(w, w)).replace("OUT/", f"{disk}/") for w in line.split()]
        with (disk / "rest").open("wb", buffering=0) as rest:
            while free == 0:
                try:
                    rest.write(bytes(4096))
                except OSError:
                    break
        called = smnet(*filled)
        one_line(called)
        assert "No space left on device" in called.err or "full" in called.err
        assert not [p for p in disk.rglob(".*") if p.is_file()], "a temporary file was left"
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
