"""Output files: checked before the work, written whole or not at all, leftovers removed."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from smnet.errors import UserError

PathLike = str | os.PathLike[str]

WRITTEN_BY = "written by smnet"
"""Stands in the metadata of the pictures, videos and tables that smnet writes."""

_HEADS = {
    ".csv": (
        b"kind,source,path,split,message",
        b"path,label,predicted,score:",
        b"video,label,start,end,score",
    ),
    ".json": (b'{\n "data":', b'{\n  "file":', b'{\n  "top1":'),
}
"""How the text files begin that smnet writes; annotations begin otherwise."""
_MARKS = (WRITTEN_BY.encode(), b"smnet-video/", b"smnet-onnx/", b"smnet.json")
"""One of these stands in every other file that smnet writes."""
_LOOK = 1 << 20  # bytes at both ends of a file in which a mark is looked for

_DAY = 24 * 3600


def check_suffix(path: PathLike, suffixes: Sequence[str], what: str) -> None:
    """Refuse the name of an output file whose suffix says another format.

    Raises:
        UserError: with the suffixes that exist.
    """
    if Path(path).suffix.lower() not in suffixes:
        *most, last = suffixes
        names = f"{', '.join(most)} or {last}" if most else last
        raise UserError(f"{path}: {what} is written as {names}")


def check_outputs(
    outputs: Mapping[str, PathLike | None],
    inputs: Iterable[PathLike | None],
    overwrite: bool = False,
) -> None:
    """Refuse output files that cannot or must not be written, before any work is done.

    Args:
        outputs: the file of each option; None where the option is not given.
        inputs: the files and folders that are read; None is skipped.
        overwrite: whether existing files that smnet did not write may be replaced.

    Raises:
        UserError: an output is an input (also through links), or a file in a folder that is read;
            it exists and smnet did not write it; it cannot be written; two outputs are one file.
    """
    read = [Path(path) for path in inputs if path is not None]
    options: dict[Path, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        target = Path(path)
        other = options.setdefault(target.resolve(), option)
        if other != option:
            raise UserError(f"{other} and {option} name the same file, {path}")
        if os.path.lexists(target):
            _check_existing(option, target, read, overwrite)
        _check_writable(target)


def _check_existing(option: str, target: Path, read: Iterable[Path], overwrite: bool) -> None:
    if target.is_dir():
        raise UserError(f"cannot write {target}: {option} names a folder")
    ours = is_ours(target)
    for source in read:
        same = source.exists() and target.exists() and source.samefile(target)
        inside = source.is_dir() and target.resolve().is_relative_to(source.resolve())
        if same or (inside and not ours):
            raise UserError(f"{option} {target} is read by this command; name another file")
    if not ours and not (overwrite and target.is_file()):
        raise UserError(
            f"{option} {target} exists and was not written by smnet; name another file, or add"
            " --overwrite"
        )


def is_ours(path: PathLike) -> bool:
    """Whether a file is empty or was written by smnet, judged by its content."""
    path = Path(path)
    if not path.is_file():
        return False
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_LOOK)
            file.seek(max(size - _LOOK, 0))
            tail = file.read(_LOOK)
    except OSError:
        return False
    heads = _HEADS.get(path.suffix.lower())
    if size == 0 or (heads and head.startswith(heads)):
        return True
    return heads is None and any(mark in head or mark in tail for mark in _MARKS)


def _check_writable(target: Path) -> None:
    folder = target.absolute().parent
    while not os.path.lexists(folder):
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}") from None


def in_utf8(text: str) -> str:
    """``text`` with the bytes of a file's name that are not UTF-8 escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


@contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, which replaces ``path`` on success.

    Missing folders are made. If the body raises (a full disk, Ctrl-C), the temporary file is
    removed and the file at ``path`` stays as it was. Temporary files that a killed process left in
    the folder are removed first. The temporary name ends in the suffix of ``path``, by which
    encoders choose their format.

    Raises:
        UserError: the folder cannot be made or written, or the disk is full.
    """
    target = Path(path)
    temporary: Path | None = None
    handle: int | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep_once(target.parent)
        handle, temporary = _new_temporary(target)
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
        if handle is not None:
            os.close(handle)


def write_text(path: PathLike, text: str) -> None:
    """Write ``text`` (UTF-8) to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _new_temporary(target: Path) -> tuple[int | None, Path]:
    """A temporary file beside ``target``, and the handle that holds its lock, if there is one."""
    while True:
        handle, name = tempfile.mkstemp(
            prefix=f".{target.stem[:40]}.smnet-", suffix=target.suffix, dir=target.parent
        )
        if _flock(handle, wait=True) is None:
            os.close(handle)
            return None, Path(name)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)  # another process swept the file before it was locked


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for large intermediate files; those of killed processes are removed first."""
    for left in Path(tempfile.gettempdir()).glob("smnet-????????"):
        if not left.is_symlink():
            _remove_stale(left / ".lock", partial(shutil.rmtree, left, ignore_errors=True))
    while True:
        folder = tempfile.TemporaryDirectory(prefix="smnet-", ignore_cleanup_errors=True)
        lock = Path(folder.name, ".lock")
        with folder, lock.open("w") as file:
            _flock(file.fileno(), wait=True)
            if lock.exists():
                yield Path(folder.name)
                return


_swept: set[Path] = set()


def _sweep_once(folder: Path) -> None:
    """Sweep a folder once per process: listing a large folder for every file would be slow."""
    if folder not in _swept:
        _swept.add(folder)
        sweep(folder)


def sweep(folder: Path) -> None:
    """Remove the temporary files of :func:`atomic_path` that killed processes left in a folder."""
    for left in folder.glob(".*.smnet-????????*"):
        _remove_stale(left, left.unlink)


def _remove_stale(file: Path, remove: Callable[[], object]) -> None:
    """Call ``remove`` while ``file`` is locked, unless the process that wrote it holds the lock."""
    with suppress(OSError):
        handle = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        try:
            locked = _flock(handle, wait=False)
            old = time.time() - os.fstat(handle).st_mtime > _DAY
            if locked or (locked is None and old):
                remove()
        finally:
            os.close(handle)


def _flock(handle: int, wait: bool) -> bool | None:
    """Lock an open file until it is closed, also by a child; None where there are no such locks."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; a folder made here is removed if it stays empty.

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
            sweep(folder)
            yield
        finally:
            lock.unlink(missing_ok=True)
            with suppress(OSError):  # not empty
                for path in made:
                    path.rmdir()


@contextmanager
def wait_for(lock: Path) -> Iterator[None]:
    """Hold the file ``lock`` for this process, after waiting for another one that holds it.

    Raises:
        UserError: it cannot be written.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = lock.open("w")
    except OSError as error:
        raise UserError(f"cannot write {lock}: {error.strerror or error}") from error
    with handle:
        _flock(handle.fileno(), wait=True)
        yield


def lock_file(handle: int) -> None:
    """Hold an open file for this process alone, until it is closed; not on Windows.

    Raises:
        BlockingIOError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:
        return
    try:
        # Not flock: workers inherit it, and outlive a killed parent for a while.
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        raise BlockingIOError from error
    except OSError:  # a file system without locks
        return


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _use_default_mode(path: Path) -> None:
    """mkstemp makes files private (0600); this gives them the mode that ``open`` gives."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)
