"""Packing a data set and reading it back."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from smnet.data.annotations.read import ClipSet, read_clips
from smnet.data.annotations.source import ClipSource
from smnet.data.clips import Clip
from smnet.data.loading.dataset import ClipDataset, TestBatches, ViewPlan
from smnet.data.loading.loader import make_loader
from smnet.data.open import open_video
from smnet.data.packing.encode import stored_frames
from smnet.errors import UserError
from tests.conftest import file_size_limit
from tests.videos import moving_frames, write_video

pa = pytest.importorskip("pyarrow")

from smnet.data.checks.check import check_clips  # noqa: E402
from smnet.data.checks.outputs import check_targets, write_fix_list  # noqa: E402
from smnet.data.packed import read as packed_module  # noqa: E402
from smnet.data.packed.read import PackedClips, clip_path, is_packed, origin  # noqa: E402
from smnet.data.packed.storage import sha256_of  # noqa: E402
from smnet.data.packing.pack import PackReport, pack_clips  # noqa: E402
from smnet.data.video import jpeg  # noqa: E402

CLIPS = 11
PLAN = ViewPlan(segments=3, size=16, short_side=20)


def frames_of(number: int) -> np.ndarray:
    return moving_frames(6 + number, 48, 40, seed=number)


def write_set(root: Path) -> Path:
    """A list of 11 clips of 6, 7, ... frames in two classes, 8 of them to train on."""
    root.mkdir()
    lines = ["path,label,split"]
    for number in range(CLIPS):
        options = {"crf": "12"}
        write_video(root / f"{number}.mp4", frames_of(number), gop=4, options=options)
        split = "train" if number < 8 else "val"
        lines.append(f"{number}.mp4,{('zebra', 'ant')[number % 2]},{split}")
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed."""
    return write_set(tmp_path_factory.mktemp("data") / "set")


def pack(data: Path, out: Path, **changes: Any) -> PackReport:
    given_: dict[str, Any] = {"frames": None, "clips_per_shard": 3, "workers": 1, **changes}
    return pack_clips(data, out, **given_)


@pytest.fixture(scope="module")
def packed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All frames of ``data``, three clips a shard. Not to be changed."""
    out = tmp_path_factory.mktemp("packed") / "out"
    pack(data, out)
    return out


@pytest.fixture
def own(packed: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(packed, tmp_path / "own"))


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def all_clips(clips: ClipSet) -> list[Any]:
    return [clip for split in clips.splits.values() for clip in split]


# --- What is stored.


@given(available=st.integers(1, 500), frames=st.integers(1, 64))
def test_stored_frames_are_the_middles_of_equal_parts(available: int, frames: int) -> None:
    chosen = stored_frames(available, frames)
    if frames >= available:
        assert chosen == list(range(available)) == stored_frames(available, None)
        return
    assert len(set(chosen)) == frames
    for k, index in enumerate(chosen):
        middle = (k + 0.5) * available / frames
        assert index <= middle + 1e-9 < index + 1 + 2e-9
    assert stored_frames(32, 8) == [2, 6, 10, 14, 18, 22, 26, 30]


def test_the_set_as_it_was(data: Path, packed: Path) -> None:
    raw, found = read_clips(data), read_clips(packed)
    assert (found.format, found.classes) == ("packed", raw.classes)
    assert "all frames" in found.why
    assert {s: len(c) for s, c in found.splits.items()} == {"train": 8, "val": 3}
    assert found.missing == {}
    for split in ("train", "val"):
        assert [c.label for c in found.splits[split]] == [c.label for c in raw.splits[split]]
        sources = [c.source for c in raw.splits[split]]
        assert [c.source for c in found.splits[split]] == sources
    assert [c.num_frames for c in all_clips(found)] == [6 + n for n in range(CLIPS)]
    names = sorted(path.name for path in packed.iterdir())
    assert names == ["index.arrow", "manifest.json", *(f"shard-0000{k}.arrow" for k in range(4))]


def test_clips_are_a_sequence_that_stays_on_the_disk(packed: Path) -> None:
    clips = read_clips(packed).splits["val"]
    assert isinstance(clips, PackedClips)
    assert clips[-1] == clips[2]
    assert list(clips[1:]) == [clips[1], clips[2]]
    assert list(pickle.loads(pickle.dumps(clips))) == list(clips)
    assert len(pickle.dumps(clips)) < 500
    with pytest.raises(IndexError):
        clips[3]
    assert clips[0].path == clip_path(str(packed), 8)
    assert is_packed(clips[0].path)
    assert not is_packed("/a/index.arrow")


def test_frames_are_those_of_the_video(data: Path, packed: Path) -> None:
    wanted = [5, 0, 3, 3]
    for raw, clip in zip(all_clips(read_clips(data)), all_clips(read_clips(packed)), strict=True):
        with open_video(raw.path) as film, open_video(clip.path) as stored:
            assert stored.num_frames == film.num_frames
            assert (stored.width, stored.height, stored.codec) == (48, 40, "jpeg")
            assert (stored.fps, stored.damage) == (film.fps, 0)
            assert stored.duration == film.duration
            true, got = film.read(wanted).astype(int), stored.read(wanted).astype(int)
            assert np.abs(true - got).mean() < 8
            # and not a neighbour's
            beside = film.read([4, 1, 2, 4]).astype(int)
            assert (np.abs(true - got).mean((1, 2, 3)) < np.abs(beside - got).mean((1, 2, 3))).all()
            with pytest.raises(UserError, match="asked for"):
                stored.read([stored.num_frames])
            assert stored.read([0], short_side=20).shape == (1, 20, 24, 3)


def test_some_frames_scaled(data: Path, tmp_path: Path) -> None:
    report = pack(data, tmp_path / "out", frames=4, short_side=20, quality=95)
    assert (report.clips, report.kept, report.damaged) == (CLIPS, 0, 0)
    raw, found = read_clips(data), read_clips(tmp_path / "out")
    assert "4 evenly spaced frames per clip, short side 20, JPEG quality 95" in found.why
    film, stored = open_video(all_clips(raw)[9].path), open_video(all_clips(found)[9].path)
    with film, stored:
        assert (stored.num_frames, stored.width, stored.height) == (4, 24, 20)
        assert stored.fps == pytest.approx(25 * 4 / 15)
        true = film.read(stored_frames(15, 4), short_side=20).astype(int)
        assert np.abs(true - stored.read(range(4))).mean() < 8


def test_frames_with_gaps_where_their_distance_counts(data: Path, tmp_path: Path) -> None:
    pack(data, tmp_path / "some", frames=14)
    pack(data, tmp_path / "many", frames=50)  # more than any clip has
    for name in ("some", "many"):
        clips = read_clips(tmp_path / name).splits["train"]
        ClipDataset(clips, ViewPlan())
        for plan, what in (
            (ViewPlan(sampling="dense"), "sampling=dense takes frames at a fixed distance"),
            (ViewPlan(sampling="tam-dense", train=True), "sampling=tam-dense takes"),
            (ViewPlan(frames_per_segment=5), "takes 5 consecutive frames per segment"),
        ):
            if name == "many":
                ClipDataset(clips, plan)
                continue
            with pytest.raises(UserError) as refused:
                ClipDataset(clips, plan)
            assert f"{tmp_path / name}: packed with 14 frames of each clip" in str(refused.value)
            assert what in str(refused.value)
            assert "--frames all" in str(refused.value)


def test_a_file_with_the_name_of_a_packed_clip(tmp_path: Path) -> None:
    path = write_video(tmp_path / "index.arrow#3_35.mp4", moving_frames(3, 32, 32))
    assert not is_packed(str(path))
    assert origin(Clip(str(path), 0, "x")) == (str(path), None)
    with open_video(path) as video:
        assert video.num_frames == 3


def test_a_damaged_manifest_is_named(own: Path) -> None:
    (own / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json"):
        read_clips(own)
    (own / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"manifest\.json"):
        read_clips(own)


def test_simplejpeg_gives_the_same(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("simplejpeg")
    with open_video(clip_path(str(packed), 4)) as video:
        fast = video.read(range(5))
        monkeypatch.setattr(jpeg, "simplejpeg", lambda: None)
        assert np.array_equal(fast, video.read(range(5)))


def write_jpegs(root: Path, size: tuple[int, int] = (48, 40), suffix: str = "jpg") -> Path:
    """Two folders of frames: colour and grey, progressive, with a comment."""
    for number, mode in enumerate(("RGB", "L")):
        folder = root / ("a", "b")[number] / "clip"
        folder.mkdir(parents=True)
        for index, frame in enumerate(moving_frames(5, *size, seed=number)):
            image = Image.fromarray(frame).convert(mode)
            options = {"quality": 71 + index, "progressive": index == 2, "comment": b"mine"}
            image.save(folder / f"{index:05d}.{suffix}", **(options if suffix == "jpg" else {}))
    return root


def test_jpeg_frames_stay_as_they_are(tmp_path: Path) -> None:
    root = write_jpegs(tmp_path / "set")
    pack(root, tmp_path / "out", quality=5)
    pack(tmp_path / "out", tmp_path / "again", quality=5)
    for folder in ("out", "again"):
        for clip, stored in zip(
            all_clips(read_clips(root)), all_clips(read_clips(tmp_path / folder)), strict=True
        ):
            files = sorted(Path(clip.path).iterdir())
            with open_video(clip.path) as raw, open_video(stored.path) as video:
                assert [video.jpeg(i) for i in range(5)] == [file.read_bytes() for file in files]
                assert np.array_equal(video.read(range(5)), raw.read(range(5)))


@pytest.mark.parametrize(
    ("how", "suffix"), [({"short_side": 20}, "jpg"), ({}, "png")], ids=["scaled", "png"]
)
def test_other_frames_are_encoded(how: dict[str, Any], suffix: str, tmp_path: Path) -> None:
    root = write_jpegs(tmp_path / "set", suffix=suffix)
    pack(root, tmp_path / "out", **how)
    for clip in all_clips(read_clips(tmp_path / "out")):
        with open_video(clip.path) as video:
            data = video.jpeg(0)
            assert data is not None
            assert b"mine" not in data
            assert video.height == how.get("short_side", 40)


def test_a_damaged_jpeg_is_not_passed_on(tmp_path: Path) -> None:
    root = write_jpegs(tmp_path / "set")
    frame = root / "a/clip/00003.jpg"
    frame.write_bytes(frame.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"00003\.jpg: a damaged image"):
        pack(root, tmp_path / "out")


def test_a_print_of_four_colours_is_encoded(tmp_path: Path) -> None:
    root = write_jpegs(tmp_path / "set")
    for frame in (root / "a/clip").iterdir():
        Image.open(frame).convert("CMYK").save(frame)
    pack(root, tmp_path / "out")
    with open_video(all_clips(read_clips(tmp_path / "out"))[0].path) as video:
        assert Image.open(io.BytesIO(video.jpeg(0) or b"")).mode == "RGB"


# --- Who reads it.


def test_the_loader_reads_it_with_workers(data: Path, packed: Path) -> None:
    def views(place: Path) -> list[Any]:
        clips = read_clips(place).splits["train"]
        loader = make_loader(ClipDataset(clips, PLAN), TestBatches(len(clips), 4), workers=2)
        return list(loader)

    for raw, batch in zip(views(data), views(packed), strict=True):
        assert batch.problems == []
        assert torch.equal(raw.labels, batch.labels)
        assert torch.equal(raw.indices, batch.indices)
        assert (raw.views.float() - batch.views.float()).abs().mean() < 8


def test_check_reads_it(own: Path) -> None:
    report = check_clips(own, workers=1)
    assert (report.checked, report.findings) == (CLIPS, ())
    spoil(own / "shard-00001.arrow", b"\xff\xd8", 0)
    report = check_clips(own, workers=1)
    assert report.counts == {"unreadable": 1}
    assert "shard-00001.arrow" in report.findings[0].message


def test_a_list_of_the_sound_clips(own: Path, tmp_path: Path) -> None:
    spoil(own / "shard-00001.arrow", b"\xff\xd8", 0)
    report = check_clips(own, workers=1, memory=tmp_path / "memory")
    assert write_fix_list(tmp_path / "sound.csv", report) == (CLIPS - 1, 0)
    found = read_clips(tmp_path / "sound.csv")
    assert {s: len(c) for s, c in found.splits.items()} == {"train": 7, "val": 3}
    assert all_clips(found)[3].path == clip_path(str(own), 4)
    assert ClipDataset(all_clips(found), PLAN)[(0, 3)].problem == ""
    assert check_clips(tmp_path / "sound.csv", workers=1).findings == ()
    again = check_clips(own, workers=1, memory=tmp_path / "memory")
    assert (again.remembered, again.findings) == (CLIPS, report.findings)
    with pytest.raises(UserError, match="beside the annotation"):
        check_targets(own, None, own / "sound.csv")


@pytest.mark.parametrize("address", ["memory://bucket/set", "file://{}"])
def test_addresses(
    packed: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if address.startswith("memory"):
        memory = fsspec.filesystem("memory")
        for path in packed.iterdir():
            memory.pipe_file(f"/bucket/set/{path.name}", path.read_bytes())
    place = address.format(packed)
    try:
        found = read_clips(place)
        assert [len(clips) for clips in found.splits.values()] == [8, 3]
        with (
            open_video(found.splits["val"][1].path) as remote,
            open_video(clip_path(str(packed), 9)) as local,
        ):
            assert np.array_equal(remote.read([7, 0]), local.read([7, 0]))
        with pytest.raises(UserError, match=r"nothing/manifest\.json: no such file"):
            read_clips(f"{place}/nothing")
        with pytest.raises(UserError, match="only packed sets"):
            read_clips(ClipSource(place, "csv"))
    finally:
        if address.startswith("memory"):
            memory.rm("/bucket", recursive=True)


def test_addresses_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = pytest.importorskip("fsspec.registry")
    monkeypatch.delitem(registry._registry, "s3", raising=False)  # where it was opened before
    with pytest.raises(UserError, match=r"^nope://a: not an address"):
        read_clips("nope://a")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UserError, match=r"^s3://a/b: .*Install s3fs"):
        read_clips("s3://a/b")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(UserError, match=r"^s3://a/b: .* pip install fsspec$"):
        read_clips("s3://a/b")


def test_without_pyarrow(
    data: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    packed_module._sets.clear()
    with pytest.raises(UserError, match=r"pip install 'smnet-video\[shards\]'"):
        read_clips(packed)
    with pytest.raises(UserError, match=r"pip install 'smnet-video\[shards\]'"):
        pack(data, tmp_path / "out")


# --- Interrupted.


def run_slowly(data: Path, out: Path) -> subprocess.Popen[bytes]:
    """The same as ``pack`` in a process of its own, in which every clip takes a while."""
    code = f"""
import time
from smnet.data.packing import pack
quick = pack.encode_clip
def slow(clip, **how):
    time.sleep(0.1)
    return quick(clip, **how)
pack.encode_clip = slow
pack.pack_clips({str(data)!r}, {str(out)!r}, frames=None, clips_per_shard=3, workers=1)
"""
    return subprocess.Popen([sys.executable, "-c", code])


def test_killed_and_resumed_gives_the_same_bytes(data: Path, packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = run_slowly(data, out)
    deadline = time.monotonic() + 120
    while not (out / "shard-00001.arrow").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(UserError, match="another process is packing into it"):
        pack(data, out)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "manifest.json").exists()
    with pytest.raises(UserError, match="packing is not finished"):
        read_clips(out)
    with pytest.raises(UserError, match="of other clips or with other settings"):
        pack(data, out, quality=50)
    (out / ".shard-00002.smnet-k1ll_d78.arrow").write_bytes(b"half")
    report = pack(data, out)
    assert 3 <= report.kept < CLIPS
    assert content(out) == content(packed)


def test_what_was_kept_is_verified(data: Path, packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(RuntimeError, match="stop"):
        pack(data, out, progress=stop_after(8))
    assert (out / "shard-00001.arrow").exists()
    spoil(out / "shard-00000.arrow", b"\xff\xd8", 0)
    report = pack(data, out)
    assert report.kept == 3  # of the six that were there
    assert content(out) == content(packed)


def stop_after(clips: int) -> Any:
    def progress(done: int, total: int, failed: int) -> None:
        if done == clips:
            raise RuntimeError("stop")

    return progress


def test_packing_again_does_nothing(data: Path, own: Path, packed: Path) -> None:
    (own / "parts").mkdir()  # of a run that was killed at its very end
    (own / "parts/plan.json").write_text("")
    report = pack(data, own, progress=stop_after(1))
    assert report.kept == report.clips == CLIPS
    assert content(own) == content(packed)


@pytest.mark.parametrize(("workers", "moved"), [(2, False), (1, True)])
def test_bytes_depend_on_neither_workers_nor_place(
    data: Path, packed: Path, tmp_path: Path, workers: int, moved: bool
) -> None:
    source = shutil.copytree(data, tmp_path / "moved") if moved else data
    pack(source, tmp_path / "out", workers=workers)
    assert content(tmp_path / "out") == content(packed)


def test_a_full_disk(data: Path, packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with file_size_limit(10_000), pytest.raises(UserError, match=r"cannot write .*shard-0000"):
        pack(data, out)
    assert not [name for name in content(out) if name.endswith(".arrow")]
    assert pack(data, out).clips == CLIPS
    assert content(out) == content(packed)


def test_folders_that_will_not_do(data: Path, tmp_path: Path) -> None:
    (tmp_path / "full/parts").mkdir(parents=True)
    (tmp_path / "full/parts/mine.txt").write_text("keep")
    with pytest.raises(UserError, match="holds other files, such as 'parts'"):
        pack(data, tmp_path / "full")
    with pytest.raises(UserError, match="lies inside the data"):
        pack(data, data / "packed")
    with pytest.raises(UserError, match="cannot write"):
        pack(data, tmp_path / "full/parts/mine.txt")
    assert (tmp_path / "full/parts/mine.txt").read_text() == "keep"
    for wrong in ({"frames": 0}, {"quality": 0}, {"short_side": 1}, {"on_error": "what"}):
        with pytest.raises(UserError, match=r"at least|from 1|raise or skip"):
            pack(data, tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()


# --- Clips that cannot be read.


@pytest.fixture
def hurt(data: Path, tmp_path: Path) -> Path:
    """Clip 1 is no film, clip 9 is empty."""
    root = Path(shutil.copytree(data, tmp_path / "hurt"))
    (root / "1.mp4").write_bytes(b"not a film")
    (root / "9.mp4").write_bytes(b"")
    return root


def test_unreadable_clips_are_all_named_and_the_rest_is_kept(
    data: Path, packed: Path, hurt: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError) as error:
        pack(hurt, out)
    for part in ("2 problems", "list.csv:3: ", "1.mp4: is not a video", "list.csv:11: ", "0 bytes"):
        assert part in str(error.value)
    assert not (out / "manifest.json").exists()
    for name in ("1.mp4", "9.mp4"):
        shutil.copy(data / name, hurt / name)
    assert pack(hurt, out).kept == 6  # the second and third shard hold no such clip
    assert content(out) == content(packed)


def test_skipped_clips_are_accounted_for(hurt: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (hurt / "10.mp4").unlink()
    report = pack(hurt, out, on_error="skip")
    assert [(c.split, c.path) for c in report.manifest.skipped] == [
        ("val", "10.mp4"),
        ("train", "1.mp4"),
        ("val", "9.mp4"),
    ]
    with pytest.raises(UserError, match=r"skipped: 3(.|\n)*list.csv:3: 1.mp4: is not a video"):
        read_clips(out)
    found = read_clips(out, missing="report")
    assert {s: len(c) for s, c in found.splits.items()} == {"train": 7, "val": 1}
    assert {s: len(c) for s, c in found.missing.items()} == {"train": 1, "val": 2}
    assert [c.label for c in found.splits["train"]] == [1, 1, 0, 1, 0, 1, 0]
    with open_video(found.splits["val"][0].path) as video:
        assert video.num_frames == 6 + 8
    listed = [*found.splits["val"], *found.missing["train"]]
    assert [origin(clip)[0] for clip in listed] == ["8.mp4", "1.mp4"]
    gone = ClipDataset([found.missing["train"][0]], PLAN)[(0, 0)]
    assert gone.views is None
    assert "was unreadable when the set was packed" in gone.problem


def test_nothing_readable(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/list.csv").write_text("path,label,split\na.mp4,a,train\n")
    (tmp_path / "data/a.mp4").write_bytes(b"")
    with pytest.raises(UserError, match="no clip could be read"):
        pack(tmp_path / "data", tmp_path / "out", on_error="skip")
    assert not (tmp_path / "out/manifest.json").exists()


# --- Damaged sets.


def spoil(path: Path, pattern: bytes, which: int) -> None:
    """Turn the bits of a byte shortly after the place where ``pattern`` stands."""
    content_ = bytearray(path.read_bytes())
    at = -1
    for _ in range(which + 1):
        at = content_.index(pattern, at + 1)
    content_[at + 40] ^= 0xFF
    path.write_bytes(content_)


def read_everything(folder: Path) -> list[np.ndarray]:
    frames = []
    for clip in all_clips(read_clips(folder)):
        with open_video(clip.path) as video:
            frames.append(video.read(range(video.num_frames)))
    return frames


def test_a_changed_frame_is_found_out(own: Path) -> None:
    spoil(own / "shard-00001.arrow", b"\xff\xd8", 0)
    with pytest.raises(UserError) as error, open_video(clip_path(str(own), 3)) as video:
        video.read([1, 0])
    for part in ("index.arrow#3: ", "shard-00001.arrow, clip 0 (3.mp4): frame 0 is not what"):
        assert part in str(error.value)
    with open_video(clip_path(str(own), 3)) as video:
        assert len(video.read([1])) == 1
    with open_video(clip_path(str(own), 4)) as video:
        assert len(video.read([0])) == 1


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda own: os.truncate(own / "shard-00002.arrow", 1000), "shard-00002.arrow: 1000 bytes"),
        (lambda own: (own / "shard-00002.arrow").unlink(), "shard-00002.arrow: no such file"),
        (lambda own: os.truncate(own / "index.arrow", 1000), "index.arrow: 1000 bytes"),
        (lambda own: (own / "index.arrow").unlink(), "index.arrow: no such file"),
        (
            lambda own: (own / "index.arrow").write_bytes(
                (own / "index.arrow").read_bytes().replace(b"3.mp4", b"4.mp4")
            ),
            "index.arrow: does not match its checksum",
        ),
        (lambda own: os.truncate(own / "manifest.json", 300), "manifest.json: not the manifest"),
        (
            lambda own: (own / "manifest.json").write_text(
                (own / "manifest.json").read_text().replace('"version": 2', '"version": 9')
            ),
            "later version",
        ),
        (
            lambda own: (own / "manifest.json").write_text(
                (own / "manifest.json").read_text().replace('"quality"', '"q"').replace("sha", "s")
            ),
            "manifest.json: damaged",
        ),
    ],
)
def test_damage_is_one_clear_error(own: Path, harm: Any, message: str) -> None:
    harm(own)
    with pytest.raises(UserError) as error:
        read_everything(own)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_any_flipped_byte_gives_the_frames_or_an_error(own: Path, packed: Path) -> None:
    """Of the shards; nothing but an error or the very frames, and no crash."""
    sound = (packed / "shard-00003.arrow").read_bytes()
    rows = [9, 10]
    true = {}
    for row in rows:
        with open_video(clip_path(str(packed), row)) as video:
            true[row] = video.read([0, 5])
    rng = np.random.default_rng(0)
    # Most of the file is images; the descriptions around them are where a crash could come from.
    places = [*rng.integers(0, len(sound), 40), *rng.integers(0, 900, 40)]
    places += [*rng.integers(len(sound) - 600, len(sound), 40)]
    errors: list[str] = []
    for place in places:
        changed = bytearray(sound)
        changed[place] ^= 1 << int(rng.integers(8))
        (own / "shard-00003.arrow").write_bytes(changed)
        packed_module._sets.clear()
        for row in rows:
            try:
                with open_video(clip_path(str(own), row)) as video:
                    assert np.array_equal(video.read([0, 5]), true[row])
            except UserError as error:
                errors.append(str(error))
    assert len(errors) > 20
    assert all("shard-00003.arrow" in text for text in errors)


def test_a_set_replaced_under_the_same_name(data: Path, own: Path) -> None:
    assert len(all_clips(read_clips(own))) == CLIPS
    shutil.rmtree(own)
    pack(data, own, frames=2)
    with open_video(clip_path(str(own), 3)) as video:
        assert video.num_frames == 2


def test_hints_that_make_no_sense(packed: Path, data: Path) -> None:
    with pytest.raises(UserError, match="leave out root"):
        read_clips(ClipSource(packed, root=data))
    with pytest.raises(UserError, match="the set has the clips 0 to 10"):
        open_video(clip_path(str(packed), 11))
    assert json.loads((packed / "manifest.json").read_text())["splits"] == {"train": 8, "val": 3}


# --- Parts of recordings.


def test_parts_are_packed_alone(data: Path, tmp_path: Path) -> None:
    """Their frames and no others, with the recording as the group, and read in any order."""
    rows = ["5.mp4,a,0,0.2,train,p", "5.mp4,b,0.2,,train,p", "6.mp4,a,,0.12,val,", "7.mp4,b,,,val,"]
    header = "path,label,start,end,split,group"
    (tmp_path / "parts.csv").write_text("\n".join([header, *rows, ""]))
    source = ClipSource(tmp_path / "parts.csv", root=data)
    pack_clips(source, tmp_path / "out", frames=None, workers=1)
    clips = all_clips(read_clips(tmp_path / "out"))
    whole = all_clips(read_clips(source))
    assert [origin(clip) for clip in clips] == [
        (clip.path.removeprefix(f"{tmp_path}{os.sep}"), clip.part) for clip in whole
    ]
    assert [clip.group for clip in clips] == ["p", "p", str(data / "6.mp4"), None]
    for clip, own in reversed(list(zip(clips, whole, strict=True))):
        with open_video(clip.path) as video, open_video(own.path, part=own.part) as expected:
            assert video.num_frames == expected.num_frames
            assert video.duration == pytest.approx(expected.duration)
            difference = video.read([0]).astype(int) - expected.read([0])
            assert np.abs(difference).mean() < 7
    assert len(check_clips(tmp_path / "out", workers=1).findings) == 0


def test_sets_of_version_1_are_read(own: Path, packed: Path) -> None:
    with pa.ipc.open_file(str(own / "index.arrow")) as file:
        table = file.read_all().drop(["start", "end", "unit", "labels", "group", "fold"])
    with pa.ipc.new_file(str(own / "index.arrow"), table.schema) as file:
        file.write_table(table)
    manifest = json.loads((own / "manifest.json").read_text())
    manifest["version"] = 1
    manifest["index"] |= {
        "bytes": (own / "index.arrow").stat().st_size,
        "sha256": sha256_of(own / "index.arrow"),
    }
    (own / "manifest.json").write_text(json.dumps(manifest))
    earlier, now = all_clips(read_clips(own)), all_clips(read_clips(packed))
    assert [(c.label, origin(c)) for c in earlier] == [(c.label, origin(c)) for c in now]
