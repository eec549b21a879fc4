"""Reads untrusted lists, tables and json: bounded, UTF-8, with line numbers in errors."""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smnet.errors import UserError

MAX_BYTES = 512 * 2**20
MAX_LINE = 1 << 16
_INTEGER = re.compile(r"[+-]?[0-9]{1,9}")


def name_of(text: str) -> str:
    """A class name in comparable form: stripped, in composed Unicode (macOS decomposes)."""
    return unicodedata.normalize("NFC", text.strip())


def whole_number(text: str) -> int | None:
    """``text`` as an integer of at most nine digits, else None."""
    text = text.strip()
    return int(text) if _INTEGER.fullmatch(text) else None


def check_size(path: Path) -> None:
    """Raise ``UserError`` where ``path`` cannot be read or is too large for a list."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if size > MAX_BYTES:
        raise UserError(
            f"{path} has {size / 2**20:.0f} MiB; annotation files have at most"
            f" {MAX_BYTES // 2**20} MiB. Is this an annotation?"
        )


def raw_lines(path: Path) -> Iterator[str]:
    """The lines of a text file, with line ends, without byte order mark.

    Raises:
        UserError: not readable, too large, not UTF-8, or a line of more than 64 KiB.
    """
    check_size(path)
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE + 1):
                number += 1
                if number == 1:
                    if _is_utf16(line):
                        raise UserError(f"{path} is UTF-16 text; save it as UTF-8")
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if len(line) > MAX_LINE or b"\0" in line:
                    raise UserError(f"{path}:{number}: not a text file of lines")
                try:
                    yield line.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise UserError(
                        f"{path}:{number}: not UTF-8; save the file as UTF-8"
                    ) from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _is_utf16(line: bytes) -> bool:
    """Whether a file that begins with ``line`` is UTF-16, with a byte order mark or without."""
    bare = len(line) > 3 and (not any(line[:8:2]) or not any(line[1:8:2]))
    return line.startswith((b"\xff\xfe", b"\xfe\xff")) or bare


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, stripped text) of every line that is not blank."""
    for number, line in enumerate(raw_lines(path), start=1):
        if text := line.strip():
            yield number, text


def head(path: Path, count: int = 50) -> list[str]:
    """The first ``count`` lines that are not blank; [] where the file is not text."""
    found: list[str] = []
    try:
        for _, text in lines(path):
            found.append(text)
            if len(found) == count:
                break
    except UserError:
        return []
    return found


def begins_with(path: Path, *words: str) -> bool:
    """Whether the first 64 KiB of a file contain all words."""
    try:
        with path.open("rb") as file:
            start = file.read(MAX_LINE)
    except OSError:
        return False
    return all(word.encode() in start for word in words)


def table(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(number of its first line, stripped fields) of every csv row that is not blank.

    Raises:
        UserError: as ``raw_lines``, or a quote is not closed.
    """
    reader = csv.reader(raw_lines(path), delimiter=delimiter, strict=True)
    start = 1
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{path}:{start}: {error}; check the quotes of that row") from error
        if any(field.strip() for field in row):
            yield start, [field.strip() for field in row]
        start = reader.line_num + 1


def header_of(path: Path, wanted: set[str]) -> tuple[str, list[str]] | None:
    """(delimiter, column names in lower case) if the first line has all of ``wanted``."""
    first = head(path, 1)
    for delimiter in ",;\t":
        try:
            columns = [
                field.strip().lower() for field in next(csv.reader(first, delimiter=delimiter))
            ]
        except (csv.Error, StopIteration):
            continue
        if wanted <= set(columns):
            return delimiter, columns
    return None


def read_json(path: Path) -> Any:
    """The content of a json file.

    Raises:
        UserError: not readable, too large, not UTF-8, not json.
    """
    check_size(path)
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not json: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not json: {error}") from error
