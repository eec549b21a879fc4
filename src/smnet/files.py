"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from smnet.errors import UserError


def check_suffix(path: str | os.PathLike[str], suffixes: Sequence[str], what: str) -> None:
    """Refuse the name of an output file whose suffix says another format.

    Raises:
        UserError: with the suffixes that exist.
    """
    if Path(path).suffix.lower() not in suffixes:
        *most, last = suffixes
        names = f"{', '.join(most)} or {last}" if most else last
        raise UserError(f"{path}: {what} is written as {names}")


def in_utf8(text: str) -> str:
    """``text`` as it is, but for the bytes of a file's name that are not UTF-8: these escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it takes the place of ``path`` at once.

    Parent folders are made. If the body raises (a full disk, Ctrl-C), the temporary file is removed
    and whatever stood at ``path`` stays as it was. The temporary name keeps the suffix of ``path``,
    since encoders choose their format by it.

    Raises:
        UserError: the folder cannot be made or written, or the disk is full.
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        _sync(temporary)
        _use_default_mode(temporary)
        temporary.replace(target)
        temporary = None
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` (UTF-8) to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sweep(folder: Path, *stems: str) -> None:
    """Remove what a killed process was writing by :func:`atomic_path`; nobody else may be writing.

    Args:
        folder: where.
        stems: patterns for the names of the files without their suffixes.
    """
    for stem in stems:
        for left in folder.glob(f".{stem}.????????.*"):
            left.unlink(missing_ok=True)


@contextmanager
def alone_in(folder: Path, *stems: str) -> Iterator[None]:
    """Hold a folder for this process; it is made if need be, and goes again if nothing came of it.

    Args:
        folder: to hold.
        stems: of the files that will be written there, see :func:`sweep`.

    Raises:
        UserError: another process holds it, or it cannot be written.
    """
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    lock = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = lock.open("w")
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from error
    with handle:
        try:
            lock_file(handle.fileno())
        except BlockingIOError:
            raise UserError(
                f"{folder}: another process is writing there; choose another --out, or wait for it"
            ) from None
        try:
            sweep(folder, *stems)
            yield
        finally:
            lock.unlink(missing_ok=True)
            with suppress(OSError):  # not empty
                for path in made:
                    path.rmdir()


def lock_file(handle: int) -> None:
    """Hold an open file for this process, until it is closed; not on Windows.

    Raises:
        BlockingIOError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:
        return
    try:
        # Not flock: workers would inherit that and outlive a killed parent for a while.
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        raise BlockingIOError from error
    except OSError:  # a file system without locks
        return


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _use_default_mode(path: Path) -> None:
    """mkstemp makes files private (0600); give them what ``open`` would have given."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)
