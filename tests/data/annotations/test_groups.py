"""Groups from the content and the names of files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from smnet.data.annotations.groups import assign_groups, name_below
from smnet.data.annotations.read import read_clips
from smnet.data.annotations.source import ClipSource


@dataclass
class Item:
    path: str
    label: int
    group: str | None = None


def named(*names: str) -> list[Item]:
    """Items of files ``CLASS/NAME``, the class a number."""
    return [Item(f"/data/{name}.mp4", int(name.partition("/")[0])) for name in names]


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (
            [f"{k}/v_Walk_g{g:02}_c{c:02}" for k in (0, 1) for g in (1, 2, 3) for c in (1, 2)],
            ["v_Walk_g01", "v_Walk_g01", "v_Walk_g02", "v_Walk_g02", "v_Walk_g03", "v_Walk_g03"],
        ),
        (
            [f"{k}/{who}_00{n}" for k in (0, 1) for who in ("ann", "bob", "cem") for n in (1, 2)],
            ["ann", "ann", "bob", "bob", "cem", "cem"],
        ),
        (
            [f"{k}/a-b_c4_00001{n}_00002{n}" for k in (0, 1) for n in (0, 1)]
            + [f"{k}/{x}xx_000000_000010" for k in (0, 1) for x in "mno"],
            ["a-b_c4", "a-b_c4"],
        ),
    ],
    ids=["UCF101", "takes", "Kinetics"],
)
def test_names_that_show_groups(names: list[str], groups: list[str]) -> None:
    rows = named(*names)
    (note,) = assign_groups(rows)
    assert "groups guessed from file names" in note
    found = [Path(str(row.group)).name for row in rows]
    assert found[: len(groups)] == groups
    # the same name in another folder is another group
    assert not {r.group for r in rows if r.label == 0} & {r.group for r in rows if r.label == 1}


@pytest.mark.parametrize(
    "names",
    [
        [f"{k}/walk_00{n}" for k in (0, 1) for n in range(6)],  # the class, numbered
        [f"{k}/0299{n}" for k in (0, 1) for n in range(6)],
        [f"{k}/{n}_{n % 3}_4" for k in (0, 1) for n in range(6)],  # a number each
        [f"{k}/fi00{n}" for k in (0, 1) for n in range(6)],
    ],
)
def test_names_that_show_nothing(names: list[str]) -> None:
    rows = named(*names)
    assert assign_groups(rows) == []
    assert {row.group for row in rows} == {None}


def test_named_groups_are_not_guessed_again() -> None:
    rows = named(*[f"0/{who}_{n}" for who in ("ann", "bob", "cem") for n in (1, 2)])
    rows[0].group = "kitchen"
    assert assign_groups(rows) == []


def test_identical_files_are_one_group_and_join_their_groups(tmp_path: Path) -> None:
    contents = {"a": b"one ", "b": b"two ", "c": b"one ", "d": b"three", "e": b"two "}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(1000 * content)
    rows = [Item(str(tmp_path / name), 0) for name in contents]
    assert assign_groups(rows) == ["4 files with the content of another are kept with it"]
    a, b, c, d, e = (row.group for row in rows)
    assert (a, b, d) == (c, e, None)
    assert a != b
    rows = [
        Item(str(tmp_path / name), 0, group) for name, group in zip("abcd", "xyzz", strict=True)
    ]
    assign_groups(rows)
    assert [row.group for row in rows] == ["x", "y", "x", "x"]


def test_a_drawn_split_keeps_guessed_groups(tmp_path: Path) -> None:
    for label in ("run", "walk"):
        (tmp_path / label).mkdir()
        for number, who in enumerate(("ann", "bob", "cem", "dan", "eve")):
            for take in (1, 2):
                content = bytes([number, take, len(label)])
                (tmp_path / label / f"{who}_{take}.mp4").write_bytes(content)
    clips = read_clips(ClipSource(tmp_path, groups="auto"))
    assert "10 groups guessed from file names, such as" in clips.why
    sides = {
        name: {(clip.label, Path(clip.path).stem[:3]) for clip in split}
        for name, split in clips.splits.items()
    }
    assert len(sides["val"]) == 2
    assert not sides["train"] & sides["val"]
    off = read_clips(ClipSource(tmp_path, groups="off"))
    assert "guessed" not in off.why


def test_names_are_seen_from_the_data_set(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "list.csv").touch()
    clip = str(tmp_path / "set" / "a" / "x.mp4")
    assert name_below(clip, tmp_path / "set") == "a/x.mp4"
    assert name_below(clip, tmp_path / "set" / "list.csv") == "a/x.mp4"
    assert name_below(clip, tmp_path) == "set/a/x.mp4"
