"""The columns of a csv: accepted names, and columns that change the meaning of a row."""

from __future__ import annotations

from pathlib import Path

import pytest

from smnet.data.annotations.read import read_clips
from smnet.data.annotations.source import ClipSource
from smnet.errors import UserError


def write(folder: Path, text: str) -> Path:
    for number in range(4):
        (folder / f"{number}.mp4").write_bytes(b"")
    (folder / "clips.csv").write_text(text)
    return folder / "clips.csv"


@pytest.mark.parametrize(
    "header",
    [
        "video,class",
        "Filename,Label",
        "clip,action",
        "Video Path,label_name",
        "file-name;category",
        "filename,target",
    ],
)
def test_common_names_of_columns(header: str, tmp_path: Path) -> None:
    delimiter = ";" if ";" in header else ","
    rows = "".join(f"{n}.mp4{delimiter}{'ab'[n % 2]}\n" for n in range(4))
    clips = read_clips(write(tmp_path, f"{header}\n{rows}"))
    assert clips.classes == ("a", "b")
    assert "is read as path" in clips.why
    assert ("is read as label" in clips.why) == ("Label" not in header)


def test_the_most_exact_name_is_taken(tmp_path: Path) -> None:
    rows = "".join(f"other{n},{n}.mp4,{'ab'[n % 2]}\n" for n in range(4))
    clips = read_clips(write(tmp_path, f"clip_name,clip_path,label\n{rows}"))
    assert "clip_path is read as path" in clips.why
    assert "columns not used: clip_name" in clips.why


def test_a_column_of_splits_by_another_name(tmp_path: Path) -> None:
    rows = "".join(f"{n}.mp4,{'ab'[n % 2]},{'train' if n < 2 else 'test'}\n" for n in range(4))
    clips = read_clips(write(tmp_path, f"path,label,Usage\n{rows}"))
    assert not clips.drawn
    assert len(clips.splits["val"]) == 2


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("offset", "part of the file"),
        ("timestamps", "part of the file"),
        ("Time", "part of the file"),
        ("label2", "one label"),
        ("labels", "one label"),
        ("x1", "part of the picture"),
        ("bbox", "part of the picture"),
    ],
)
def test_columns_that_change_the_meaning_of_a_row(column: str, words: str, tmp_path: Path) -> None:
    rows = "".join(f"{n}.mp4,{'ab'[n % 2]},{n}\n" for n in range(4))
    file = write(tmp_path, f"path,label,{column}\n{rows}")
    with pytest.raises(UserError, match=words) as caught:
        read_clips(file)
    assert str(caught.value).startswith(f"{file}:2: the column ")


def test_an_empty_column_changes_nothing(tmp_path: Path) -> None:
    rows = "".join(f"{n}.mp4,{'ab'[n % 2]},\n" for n in range(4))
    assert read_clips(write(tmp_path, f"path,label,start\n{rows}")).classes == ("a", "b")


@pytest.mark.parametrize("column", ["comment", "weather", "standing", "weight", "ending_soon"])
def test_other_columns_are_ignored(column: str, tmp_path: Path) -> None:
    rows = "".join(f"{n}.mp4,{'ab'[n % 2]},1\n" for n in range(4))
    assert (
        f"columns not used: {column}"
        in read_clips(write(tmp_path, f"path,label,{column}\n{rows}")).why
    )


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two columns are named 'label'"):
        read_clips(write(tmp_path, "path,label,label\n0.mp4,a,b\n"))


# A csv or json of each form that a table of one's own may look like, with a further column.
FORMS = {
    "csv": ("marks.csv", "path,label,start,end", "{n}.mp4,{l},0,1"),
    "thumos": ("marks.csv", "video,type,start,end", "{n}.mp4,{l},0,1"),
    "kinetics": ("train.csv", "label,youtube_id,time_start,time_end", "{l},{n},0,1"),
    "createml": ("marks.json", "", '"video": "{n}.mp4", "label": "{l}", "start": 0, "end": 1'),
}


def of_form(form: str, folder: Path, column: str, values: tuple[str, ...]) -> ClipSource:
    """A data set of a form whose rows have these values in a column."""
    name, header, pattern = FORMS[form]
    rows = [pattern.replace("{n}", str(n)).replace("{l}", "ab"[n % 2]) for n in range(4)]
    for number in range(4):
        (folder / f"{number}.mp4").write_bytes(b"")
    if header:
        rows = [f"{row},{value}" for row, value in zip(rows, values, strict=True)]
        text = "\n".join([f"{header},{column}", *rows, ""])
    else:
        pairs = zip(rows, values, strict=True)
        objects = [f'{{{row}, "{column}": "{value}"}}' for row, value in pairs]
        text = f"[{', '.join(objects)}]"
    (folder / name).write_text(text)
    return ClipSource(folder, format=form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("column", ["label2", "bbox"])
def test_no_form_ignores_a_column_that_changes_a_row(
    form: str, column: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"the column '{column}' means"):
        read_clips(of_form(form, tmp_path, column, ("", "", "1", "")))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_takes_the_column_of_splits(form: str, tmp_path: Path) -> None:
    clips = read_clips(of_form(form, tmp_path, "split", ("train", "train", "val", "val")))
    assert not clips.drawn
    assert {Path(clip.path).stem for clip in clips.splits["val"]} == {"2", "3"}


@pytest.mark.parametrize("form", ["csv", "thumos", "createml"])
def test_forms_with_groups_keep_them(form: str, tmp_path: Path) -> None:
    clips = read_clips(of_form(form, tmp_path, "group", ("x", "x", "y", "y")))
    sides = [{clip.group for clip in rows} for rows in clips.splits.values()]
    assert not set.intersection(*sides)
    assert set.union(*sides) == {"x", "y"}
