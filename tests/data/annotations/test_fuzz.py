"""Mutated annotations end in clips or in one ``UserError``, within bounded time.

SMNET_FUZZ_SECONDS=600 makes a long campaign of it.
"""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest

from smnet.console import printable
from smnet.data.annotations.read import read_clips
from smnet.errors import UserError

pytestmark = pytest.mark.fuzz
SECONDS = float(os.environ.get("SMNET_FUZZ_SECONDS", "2"))

# One small annotation per form: {file name: content}. The clips are 0.mp4 to 3.mp4, also in a/.
SEEDS: dict[str, dict[str, str]] = {
    "csv": {
        "clips.csv": "path,label,split,frames\n0.mp4,a,train,3\n1.mp4,b,train,\n2.mp4,b,val,\n"
    },
    "list": {"train.txt": "0.mp4 0\n1.mp4 1\n", "val.txt": "2.mp4 0\n", "labels.txt": "x\ny\n"},
    "frames list": {"train.txt": "a 12 0\n0 14 1\n", "classInd.txt": "1 x\n2 y\n"},
    "something-v2": {
        "labels.json": json.dumps({"Doing something": "0", "Holding it": "1"}),
        "train.json": json.dumps([{"id": "0", "template": "Doing [something]"}]),
        "validation.json": json.dumps([{"id": "1", "template": "Holding it"}]),
    },
    "something-v1": {
        "labels.csv": "Doing something\nHolding it\n",
        "train.csv": "0;Doing something\n1;Holding it\n",
        "validation.csv": "2;Holding it\n",
    },
    "kinetics": {
        "train.csv": "label,youtube_id,time_start,time_end,split\na,0123456789A,0,10,train\n"
    },
    "ucf101": {
        "trainlist01.txt": "a/v_a_g08_c01.avi 1\n",
        "testlist01.txt": "a/v_a_g01_c01.avi\n",
        "classInd.txt": "1 a\n2 b\n",
    },
    "hmdb51": {"a_test_split1.txt": "0.mp4 1\n1.mp4 2\n"},
    "diving48": {
        "Diving48_vocab.json": json.dumps([["Back", "1"], ["Front", "2"]]),
        "Diving48_V2_train.json": json.dumps([{"vid_name": "0", "label": 0, "end_frame": 9}]),
    },
    "packed": {"manifest.json": json.dumps({"format": "smnet-packed/1", "classes": ["a"]})},
}
TOKENS = [
    *(
        "",
        "\0",
        "\n",
        "\r\n",
        "\ufeff",
        "\ud800",
        '"',
        "'",
        ",",
        ";",
        "\t",
        "|",
        "%",
        "{",
        "[",
        "]",
    ),
    *("../", "/", "\\", "C:\\", "a" * 300, "9" * 30, "-1", "1e999", "nan", "null", "true", "0.mp4"),
    *("start", "label2", "labels", "[" * 2000, "\u202e", "\x1b[31m", "e\u0301", "train", "NaN"),
]


def mutate(text: str, chance: random.Random) -> bytes:
    """``text`` with a few random edits."""
    data = text.encode()
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice((0, 1, 1, 3, 10, 1000)))
        token = chance.choice(TOKENS).encode("utf-8", "surrogatepass")
        piece = chance.choice((token, bytes([chance.randrange(256)]), data[at:end] * 2, b""))
        data = data[:at] + piece + data[end:]
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    for name in ("0.mp4", "1.mp4", "2.mp4", "3.mp4", "a/0.mp4", "a/1.mp4"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


@pytest.mark.parametrize("form", SEEDS)
def test_mutated_annotations(form: str, folder: Path) -> None:
    seed = random.SystemRandom().randrange(2**32) if SECONDS > 60 else 0
    chance = random.Random(f"{seed} {form}")
    end = time.monotonic() + SECONDS / len(SEEDS)
    try:
        while time.monotonic() < end:
            content = {name: text.encode() for name, text in SEEDS[form].items()}
            name = chance.choice(list(content))
            content[name] = mutate(SEEDS[form][name], chance)
            for file, data in content.items():
                (folder / file).write_bytes(data)
            before = time.process_time()
            try:
                clips = read_clips(folder, missing=chance.choice(("error", "report")))
            except UserError as error:
                message = str(error)
                assert len(message) < 20_000
                assert all(line == printable(line) for line in message.split("\n")), content[name]
            else:
                labels = [c.label for side in clips.splits.values() for c in side]
                assert all(-1 <= label < len(clips.classes) for label in labels), content[name]
            assert time.process_time() - before < 5, content[name]
    finally:
        for file in SEEDS[form]:
            (folder / file).unlink(missing_ok=True)
