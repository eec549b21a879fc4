"""Fetch a file: checked by its hash, bounded in size, resumed where it broke off."""

from __future__ import annotations

import errno
import hashlib
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

from smnet.console import console, progress_bar
from smnet.errors import UserError

TIME_LIMIT = 20.0
"""Seconds that a server may be silent."""
ATTEMPTS = 4
"""Requests in a row that bring nothing new before the download fails."""
_BLOCK = 1 << 18
_LOCAL = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EISDIR)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(address: str, target: Path, sha256: str, most: int, what: str) -> None:
    """Download ``address`` to ``target``, which exists afterwards only if its hash is right.

    What has come is kept in ``target`` with ``.part`` appended, also when the process ends, and a
    later call requests the rest. The caller makes sure that no other process fetches the same file.

    Args:
        address: of http or https.
        target: the file; its folder is made.
        sha256: how the hash begins.
        most: bytes; a larger file is refused.
        what: name of the file for people.

    Raises:
        UserError: no network, a refusal, another hash, too many bytes, or a full disk. The message
            says which file to put where.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        failures = 0
        while True:
            before = _size(part)
            try:
                _transfer(address, part, most, what)
                break
            except urllib.error.HTTPError as error:
                reason: object = f"{error.code} {error.reason}"
                if error.code == 416:
                    part.unlink(missing_ok=True)  # more than the server has
                elif error.code < 500:
                    raise _refused(reason, address, target) from None
            except (HTTPException, OSError) as error:  # URLError is an OSError
                if _is_local(error):
                    raise
                reason = getattr(error, "reason", error)
                if before == _size(part) == 0:  # no network
                    raise _refused(reason, address, target) from None
            failures = 0 if _size(part) > before else failures + 1
            if failures == ATTEMPTS:
                raise _refused(reason, address, target)
            time.sleep(0.2 * 2**failures)
        if not sha256_of(part).startswith(sha256):
            part.unlink()
            raise UserError(
                f"{address} sent another file than the published one (its SHA-256 does not begin"
                f" {sha256}); try again, or put the file at {target}"
            )
        part.replace(target)
    except OSError as error:
        raise UserError(f"cannot write {part}: {error.strerror or error}") from error


def _transfer(address: str, part: Path, most: int, what: str) -> None:
    """One request: append to ``part`` what is missing."""
    begin = _size(part)
    request = urllib.request.Request(address, headers={"User-Agent": "smnet"})
    if begin:
        request.add_header("Range", f"bytes={begin}-")
    with urllib.request.urlopen(request, timeout=TIME_LIMIT) as answer:
        if answer.status != 206 or not _continues(answer, begin):
            begin = 0  # the server sends the whole file
        rest = answer.headers.get("Content-Length")
        total = begin + int(rest) if rest and rest.isdigit() else None
        if total is not None and total > most:
            raise _too_large(address, total, most)
        if not console.is_terminal:
            size = f", {total / 1e6:.0f} MB" if total else ""
            console.print(f"fetching {what}{size}, once: {address}", soft_wrap=True)
        done, began = begin, time.monotonic()
        with part.open("ab" if begin else "wb") as file, progress_bar() as bar:
            row = bar.add_task(f"fetching {what} (MB)", total=total and total / 1e6, note="")
            while block := answer.read(_BLOCK):
                done += len(block)
                if done > most:
                    raise _too_large(address, done, most)
                file.write(block)
                rate = (done - begin) / 1e6 / max(time.monotonic() - began, 1e-6)
                bar.update(row, completed=round(done / 1e6, 1), note=f"{rate:.1f} MB/s")
        if total is not None and done < total:
            raise ConnectionError(f"the connection broke after {done} of {total} bytes")


def _continues(answer: Any, begin: int) -> bool:
    return bool(answer.headers.get("Content-Range", "").startswith(f"bytes {begin}-"))


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _is_local(error: Exception) -> bool:
    """Whether a file could not be written, not the server read."""
    return isinstance(error, OSError) and error.errno in _LOCAL


def _refused(reason: object, address: str, target: Path) -> UserError:
    return UserError(f"cannot fetch {address} ({reason}); put the file at {target}")


def _too_large(address: str, size: int, most: int) -> UserError:
    return UserError(f"{address} has {size / 1e6:.0f} MB, over the limit of {most / 1e6:.0f} MB")
