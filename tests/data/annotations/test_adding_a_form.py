"""The example of docs/adding-an-annotation-form.md, run."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from smnet.data.annotations.formats import FORMATS
from smnet.data.annotations.read import ClipSource, read_clips, recognise
from smnet.errors import UserError

PAGE = Path(__file__).parents[3] / "docs" / "adding-an-annotation-form.md"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of the form of the page, which is in the table."""
    blocks = dict(re.findall(r'```python title="([^"]+)"\n(.*?)```', PAGE.read_text("utf-8"), re.S))
    names = {"json_lines": ModuleType("json_lines")}
    exec(blocks["src/smnet/data/annotations/forms/json_lines.py"], names["json_lines"].__dict__)
    (form,) = eval(f"[{blocks['src/smnet/data/annotations/formats.py']}]", dict(names))
    monkeypatch.setitem(FORMATS, form.name, form)
    (tmp_path / "v").mkdir()
    lines = []
    for number in range(10):
        (tmp_path / "v" / f"{number}.mp4").write_bytes(b"")
        lines.append(f'{{"video": "v/{number}.mp4", "class": "{"ba"[number % 2]}"}}\n')
    (tmp_path / "clips.jsonl").write_text("".join(lines))
    return tmp_path / "clips.jsonl"


def test_it_is_recognised_and_read(data: Path) -> None:
    form, why = recognise(data)
    assert (form.name, why) == ("json-lines", "clips.jsonl with lines of json")
    clips = read_clips(data)
    assert clips.classes == ("a", "b")
    assert {split: len(side) for split, side in clips.splits.items()} == {"train": 8, "val": 2}
    data.write_text(data.read_text().replace('"b"}', '"b", "split": "val"}'))
    with pytest.raises(UserError, match="no training clip of 'b'"):
        read_clips(data)


def test_its_problems_are_in_one_error(data: Path) -> None:
    with data.open("a") as file:
        file.write('{"video": "v/gone.mp4", "class": "a"}\n{"video": 3}\n[]\nnonsense\n')
    with pytest.raises(UserError) as caught:
        read_clips(ClipSource(data, "json-lines"))
    assert "4 problems (malformed row: 3, missing file: 1)" in str(caught.value)
    assert "clips.jsonl:11: no such clip" in str(caught.value)
