"""The description of the machine, and the restart that merges freed memory."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import pytest

import smnet.__main__
from smnet.cli import main
from smnet.system import MERGED_MEMORY, _processor, restart_with_merged_memory

Started = list[tuple[str, list[str]]]


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ("fpu avx2", "Zen 9 (AVX2)"),
        ("avx2 avx512f avx512_vnni avx_vnni", "Zen 9 (AVX2, AVX-512, VNNI)"),
        ("fpu sse2", "Zen 9"),
    ],
)
def test_a_processor_is_named_with_its_instructions(tmp_path: Path, flags: str, found: str) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor : 0\nmodel name\t: Zen 9\nflags\t\t: {flags}\n\n" * 2, "utf-8")
    assert _processor(file) == found
    assert _processor(tmp_path / "none")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """What was started in the place of this process, which is ``python -m smnet train motion``."""
    calls: Started = []
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "smnet", "train", "motion"])
    monkeypatch.setattr(sys, "argv", [smnet.__main__.__file__, "train", "motion"])
    monkeypatch.setattr(os, "execv", lambda program, words: calls.append((program, words)))
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setenv("GLIBC_TUNABLES", "")
    return calls


def test_the_same_command_is_started_once(started: Started) -> None:
    restart_with_merged_memory()
    assert started == [(sys.executable, [sys.executable, "-m", "smnet", "train", "motion"])]
    assert os.environ["GLIBC_TUNABLES"] == MERGED_MEMORY
    restart_with_merged_memory()
    assert len(started) == 1


def test_other_settings_stay(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=1")
    restart_with_merged_memory()
    assert os.environ["GLIBC_TUNABLES"] == f"glibc.malloc.arena_max=1:{MERGED_MEMORY}"


@pytest.mark.parametrize("case", ["own value", "another library", "other words", "other program"])
def test_no_restart(started: Started, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    if case == "own value":
        monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=3")
    elif case == "another library":
        monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    elif case == "other words":
        monkeypatch.setattr(sys, "orig_argv", ["python", "notebook.py"])
    else:
        monkeypatch.setattr(sys, "orig_argv", ["python", "mine.py", "train", "motion"])
        monkeypatch.setattr(sys, "argv", ["mine.py", "train", "motion"])
    restart_with_merged_memory()
    assert not started


@pytest.mark.parametrize(("verb", "count"), [("train", 1), ("compare", 1), ("models", 0)])
def test_verbs_that_train_restart(
    started: Started, monkeypatch: pytest.MonkeyPatch, verb: str, count: int
) -> None:
    monkeypatch.setattr(sys, "argv", ["bin/smnet", verb, "--help"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "bin/smnet", verb, "--help"])
    with pytest.raises(SystemExit):
        main.main()
    assert len(started) == count
