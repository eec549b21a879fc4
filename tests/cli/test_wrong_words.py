"""Wrong command lines, made from the options of every verb: one line, and never status 0."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from smnet.cli import main as cli
from tests.conftest import Called

Smnet = Callable[..., Called]

# Command lines that parse, and name files that do not exist: no case below starts any work.
WORDS = {
    "train": "--data nowhere",
    "evaluate": "nowhere --data nowhere",
    "predict": "nowhere nowhere.mp4",
    "timeline": "nowhere nowhere.mp4",
    "live": "nowhere nowhere.mp4",
    "embed": "nowhere nowhere.mp4 --out new",
    "find": "nowhere.mp4 --in nowhere",
    "adapt": "nowhere --from nowhere",
    "label": "nowhere --from nowhere",
    "serve": "nowhere",
    "explain": "nowhere nowhere.mp4",
    "models": "nowhere*",
    "recipes": "nowhere",
    "weights": "nowhere*",
    "compare": "--models nowhere",
    "profile": "nowhere",
    "demo": "--out file",
    "export": "nowhere",
    "convert": "nowhere.pth --out new.safetensors",
    "push": "nowhere owner/name",
    "data show": "nowhere",
    "data check": "nowhere",
    "data stats": "nowhere",
    "data pack": "nowhere new",
    "data join": "nowhere new.mp4",
    "data draw": "file",
}
NUMBERS = ("many", "-1000000", "1e400", "nan", "9" * 40, "0x10")
TEXTS = ("", "nowhere", "a" * 5000, "café\udcff", "=", "../" * 50, "*", "@", "hf://", "s3://")
VALUES = (*NUMBERS, *TEXTS)
LONG = "SMNET_FUZZ_SECONDS" in os.environ  # every value for every option, not one of them


def commands() -> Iterator[tuple[str, Any]]:
    app: Any = typer.main.get_command(cli.app)
    for name, command in app.commands.items():
        for below, child in getattr(command, "commands", {"": command}).items():
            yield f"{name} {below}".strip(), child


def wrong_lines(verb: str, command: Any) -> Iterator[list[str]]:
    words = [*verb.split(), *WORDS[verb].split()]
    yield words
    yield [*words, "--nothing"]
    yield [*words, "-x"]
    yield [*words, "--nothing=1", "more"]
    for number, parameter in enumerate(command.params):
        if parameter.param_type_name != "option" or parameter.name == "help":
            continue
        option = parameter.opts[0]
        yield [*words, f"{option}x"]
        if getattr(parameter, "is_flag", False):
            yield [*words, f"{option}=maybe"]
            continue
        yield [*words, option]
        if verb != "demo":  # every value of --out would start it
            kind = (NUMBERS, TEXTS)[number % 2]
            one = (kind[number // 2 % len(kind)],)
            yield from ([*words, option, value] for value in (VALUES if LONG else one))
    if any(p.param_type_name == "argument" and p.required for p in command.params):
        yield verb.split()
        texts = TEXTS if LONG else TEXTS[:4]
        for value in texts if verb != "data draw" else texts[:1]:  # clips are drawn in the others
            yield [*verb.split(), value, *words[len(verb.split()) + 1 :]]


def test_the_table_has_every_verb() -> None:
    assert {verb for verb, _ in commands()} == set(WORDS)
    assert sum(len(list(wrong_lines(*item))) for item in commands()) > 200


@pytest.mark.fuzz
@pytest.mark.slow
@pytest.mark.parametrize("verb", WORDS)
def test_a_wrong_command_line_is_one_line(
    smnet: Smnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    for words in wrong_lines(verb, dict(commands())[verb]):
        called = smnet(*words)
        shown = f"{words}: {called}"
        assert called.status in (1, 2), shown
        assert called.out == "", shown
        assert called.err.startswith("smnet: "), shown
        assert called.err.count("\n") == 1, shown
        assert "Traceback" not in called.err, shown
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


# Slips, and what their messages suggest.
SLIPS = [
    ("train CLIPS", "did you mean --data CLIPS"),
    ("train list.csv", "did you mean --data list.csv"),
    ("train smnet_resnet50 --data CLIPS", "did you mean model=smnet_resnet50"),
    ("train --data CLIPS --epochs 5", "did you mean epochs=5"),
    ("train --data CLIPS --lr=0.1", "did you mean lr=0.1"),
    ("train RUN", "did you mean --resume RUN"),
    ("train motoin", "did you mean 'motion'"),
    ("trian --data CLIPS", "Did you mean 'train'"),
    ("eval RUN --data CLIPS", "did you mean smnet evaluate"),
    ("resume RUN", "did you mean smnet train --resume"),
    ("data CLIPS", "did you mean smnet data show CLIPS"),
    ("data chekc CLIPS", "Did you mean 'check'"),
    ("check CLIPS", "did you mean smnet data check"),
    ("evaluate RUN CLIPS", "did you mean --data CLIPS"),
    ("export RUN model.onnx", "did you mean --out model.onnx"),
    ("convert w.pth ours.safetensors", "did you mean --out ours.safetensors"),
    ("compare CLIPS --models tsn_resnet18", "did you mean --data CLIPS"),
    ("predict CLIPS/val/rising/0.mp4 RUN", "the checkpoint comes first"),
    ("predict RUN CLIPS/val/rising/0.mp4 --jsn", "--json"),
]


@pytest.mark.parametrize(("words", "says"), SLIPS, ids=[words for words, _ in SLIPS])
def test_slips(smnet: Smnet, run: Path, clips: Path, words: str, says: str) -> None:
    def names(text: str) -> str:
        return text.replace("CLIPS", str(clips)).replace("RUN", str(run))

    called = smnet(*names(words).split())
    assert called.status != 0
    assert names(says).lower() in called.err.lower()
    assert called.err.count("\n") == 1
