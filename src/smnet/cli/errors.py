"""How an error ends the command line: one line, and the exit status."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from smnet.cli.hints import did_you_mean
from smnet.errors import UserError, is_out_of_memory


def fail(line: str, status: int) -> NoReturn:
    """Print a line on standard error, once for all processes of a run, and exit."""
    first = True
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        with contextlib.suppress(ModuleNotFoundError):  # no PyTorch: every process prints
            from smnet.distributed import says_first

            first = says_first(line)
    if first:
        from smnet.console import printable

        print("\n".join(map(printable, line.split("\n"))), file=sys.stderr)
    sys.exit(status)


def usage_line(error: Any, words: Sequence[str]) -> str:
    """A line for a command line that cannot be parsed (click's ``UsageError``)."""
    if type(error).__name__ == "NoArgsIsHelpError":
        return str(error.format_message())
    message = " ".join(error.format_message().split())
    command = error.ctx.command_path if error.ctx is not None else "smnet"
    hint = did_you_mean(words, getattr(error, "option_name", ""))
    return " ".join(filter(None, (f"smnet: {message}", hint, f"See {command} --help")))


def one_line(error: BaseException) -> str | None:
    """A line for an error that is no fault of the program; None for any other."""
    if isinstance(error, UserError):
        return f"smnet: {error}"
    if isinstance(error, KeyboardInterrupt):
        return "smnet: interrupted"
    if isinstance(error, ModuleNotFoundError):
        if error.name != "torch":
            return None
        return (
            "smnet: this needs PyTorch, which is not installed; without it, only exported files"
            " can be used for prediction"
        )
    if is_out_of_memory(error):
        return "smnet: out of memory; use a smaller batch (batch= or --batch), or a smaller size="
    if isinstance(error, RuntimeError):
        known = _lost_process(error)
        return known and f"smnet: {known}"
    if isinstance(error, (ValueError, OSError)):
        return f"smnet: {error} (SMNET_TRACEBACK=1 shows where)"
    return None


def _lost_process(error: BaseException) -> str | None:
    words = ("by peer", "gloo/transport", "remote process exit")
    if "WORLD_SIZE" in os.environ and any(word in str(error) for word in words):
        return (
            f"process {os.environ.get('RANK')} ended because another process of the run ended;"
            " that one says why, unless it was killed"
        )
    return None
