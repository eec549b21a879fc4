"""Files at addresses that fsspec knows: s3://, gs://, https://, ..."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from smnet.errors import UserError

TIMEOUT = 30.0
"""Seconds for one request."""
WAITS = (0.5, 2.0, 5.0)
"""Seconds before each further try of a failed request."""
FINAL = (FileNotFoundError, PermissionError, ImportError, ValueError)
"""Failures that another try does not mend."""
MAX_BYTES = 4 * 2**30
"""Largest file that is fetched."""

_BLOCK = 1 << 20  # bytes
LIVE = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "srt", "tcp")
"""Schemes of streams, which do not end."""


class Unreachable(UserError):
    """A file at an address that cannot be fetched."""


def is_url(place: str) -> bool:
    """Whether ``place`` is an address such as ``s3://bucket/folder`` and not a local path."""
    return "://" in place


def filesystem_of(place: str) -> tuple[Any, str]:
    """fsspec's file system of an address, and the path in it.

    Raises:
        UserError: a library is not installed, or this is no address of a file.
    """
    protocol = place.rpartition("::")[2].partition("://")[0]
    if protocol in LIVE:
        raise UserError(f"{place}: a live stream, which has no end; use smnet live")
    try:
        core = importlib.import_module("fsspec.core")
    except ImportError as error:
        raise UserError(
            f"{place}: reading {protocol}:// needs fsspec, which is not installed; install it with:"
            " pip install fsspec"
        ) from error
    try:
        options: dict[str, Any] = {}
        if place.startswith(("http://", "https://")):
            aiohttp = importlib.import_module("aiohttp")
            options = {
                "client_kwargs": {"timeout": aiohttp.ClientTimeout(total=TIMEOUT)},
                "headers": {"Accept-Encoding": "identity"},  # ranges of the file itself
            }
        filesystem, path = core.url_to_fs(place, **options)
    except ImportError as error:
        raise UserError(
            f"{place}: reading {protocol}:// needs a library that is not installed: {error}"
        ) from error
    except Exception as error:
        raise UserError(f"{place}: not an address that can be read ({error})") from error
    return filesystem, str(path)


def protocols(filesystem: Any) -> tuple[str, ...]:
    """The schemes of a file system."""
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def cause_of(error: Exception) -> Exception:
    """The exception with a type that tells whether another try makes sense.

    fsspec turns every failure of an HTTP server into a missing file, or leaves it as it is.
    """
    cause = error.__cause__
    if isinstance(cause, Exception) and type(cause).__module__.startswith("aiohttp"):
        error = cause
    status = getattr(error, "status", None)
    if status == 404:
        return FileNotFoundError()
    if isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429):
        return PermissionError(f"HTTP {status}")
    return error


@contextmanager
def fetched(address: str, offset: int = 0, size: int | None = None) -> Iterator[str]:
    """Yield the path of a temporary local copy of the file at an address, or of a part of it.

    Args:
        address: of a file; also a local path.
        offset: of its first byte.
        size: in bytes; None is all from ``offset`` on.

    Raises:
        Unreachable: it cannot be fetched, or is larger than :data:`MAX_BYTES`.
        UserError: see :func:`filesystem_of`.
    """
    path = address
    open_file: Callable[..., Any] = Path(address).open
    if is_url(address):
        filesystem, path = filesystem_of(address)
        open_file = partial(filesystem.open, path, cache_type="readahead", block_size=4 * _BLOCK)
    suffix = "." + path.rpartition(".")[2][:8] if "." in path.rpartition("/")[2] else ""
    with NamedTemporaryFile(prefix="smnet-", suffix=suffix) as copy:
        for wait in (*WAITS, None):
            try:
                with open_file(mode="rb") as source:
                    _copy(source, copy, offset, size)
                break
            except Unreachable as error:
                raise Unreachable(f"{address}: {error}") from None
            except Exception as caught:  # every file system has its own exceptions
                cause = cause_of(caught)
                if wait is None or isinstance(cause, FINAL):
                    raise Unreachable(f"{address}: {_reason(cause)}") from caught
                time.sleep(wait)
        copy.flush()
        yield copy.name


def _copy(source: Any, target: Any, offset: int, size: int | None) -> None:
    target.seek(0)
    target.truncate()
    if offset:
        source.seek(offset)
    left = MAX_BYTES if size is None else size
    while left > 0 and (block := source.read(min(_BLOCK, left))):
        left -= target.write(block)
    if left == 0 and size is None:
        raise Unreachable(f"more than {MAX_BYTES >> 30} GiB")
    if size is not None and left:
        raise EOFError(f"{left} of {size} bytes are missing")


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT:g} s"
    text = " ".join(str(error).split())
    return f"cannot be fetched ({type(error).__name__}: {text})"
