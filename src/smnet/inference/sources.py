"""What can be predicted from: words of a command line, paths, and videos in memory."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from smnet.console import console, printable
from smnet.data.addresses import MAX_BYTES, cause_of, fetched, filesystem_of, is_url, protocols
from smnet.data.annotations.columns import columns_of
from smnet.data.annotations.listing import visible
from smnet.data.annotations.places import is_image, is_video
from smnet.data.annotations.text import table
from smnet.data.clips import Part
from smnet.data.video.base import MAX_PIXELS
from smnet.errors import UserError

SHOWN = 3
"""Names per message of files that were left out."""


@dataclass(frozen=True)
class Source:
    """One video to predict from, and its name for people.

    ``content`` is a path or an address, frames (T, H, W, 3) uint8, the bytes of a video file, an
    open binary file, or an open container of PyAV.

    ``part`` is the part to predict from; None is all of it.
    """

    name: str
    content: Any
    part: Part | None = None

    def __str__(self) -> str:
        return self.name

    @classmethod
    def of(cls, given: Any) -> Source:
        """Name a source and check its type."""
        if isinstance(given, Source):
            return given
        if isinstance(given, str | os.PathLike):
            path = os.fsdecode(given)
            return cls(path, path)
        if _is_tensor(given):
            given = given.detach().cpu()
            given = (given.float() if given.is_floating_point() else given).numpy()
        if isinstance(given, np.ndarray):
            frames = _frames(given)
            return cls(f"<{len(frames)} frames>", frames)
        if isinstance(given, bytes | bytearray | memoryview):
            return cls(f"<{len(given)} bytes>", given)
        if isinstance(given, InputContainer) or hasattr(given, "read"):
            name = getattr(given, "name", None)
            return cls(name if isinstance(name, str) and name else "<open file>", given)
        raise UserError(
            f"{type(given).__name__}: not a video; give a path, RGB frames (T, H, W, 3), the"
            " bytes of a video file, or an open file"
        )

    @contextmanager
    def readable(self) -> Iterator[str | NDArray[np.uint8]]:
        """A path or an array of frames that holds the video.

        Raises:
            Unreachable: an address that cannot be fetched.
        """
        content = self.content
        if isinstance(content, str) and is_url(content):
            with fetched(content) as copy, self._named(copy):
                yield copy
        elif isinstance(content, str | np.ndarray):
            yield content
        elif isinstance(content, InputContainer):
            yield content.name if Path(content.name).is_file() else self._decoded(content)
        else:
            with tempfile.NamedTemporaryFile(prefix="smnet-") as file:
                if hasattr(content, "read"):
                    self._copy(content, file)
                else:
                    file.write(content)
                file.flush()
                with self._named(file.name):
                    yield file.name

    @contextmanager
    def _named(self, copy: str) -> Iterator[None]:
        """Errors about a temporary copy speak of the source."""
        try:
            yield
        except UserError as error:
            raise type(error)(str(error).replace(copy, self.name)) from None

    def _copy(self, opened: Any, target: IO[bytes]) -> None:
        size = 0
        while part := opened.read(1 << 20):
            if not isinstance(part, bytes):
                raise UserError(f"{self.name}: opened as text; open it with mode 'rb'")
            size += target.write(part)
            if size > MAX_BYTES:
                raise UserError(f"{self.name}: more than {MAX_BYTES >> 30} GiB")

    def _decoded(self, container: InputContainer) -> NDArray[np.uint8]:
        frames: list[NDArray[np.uint8]] = []
        size = 0
        try:
            for frame in container.decode(video=0):
                frames.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
                size += frames[-1].nbytes
                if size > MAX_BYTES:
                    raise UserError(f"{self.name}: more than {MAX_BYTES >> 30} GiB of frames")
        except (av.FFmpegError, IndexError) as error:
            raise UserError(f"{self.name}: cannot be decoded ({error})") from None
        if not frames:
            raise UserError(f"{self.name}: no frames are left in this container")
        return np.stack(frames)


def each_source(given: Any) -> Any:
    """The videos in what was given: one by itself, or several in an iterable."""
    single = (str, os.PathLike, bytes, bytearray, memoryview, InputContainer)
    if isinstance(given, single) or hasattr(given, "read"):
        return [given]
    if (isinstance(given, np.ndarray) or _is_tensor(given)) and given.ndim <= 4:
        return [given]
    return given


def _is_tensor(given: Any) -> bool:
    """Whether this is a tensor of PyTorch, without importing PyTorch."""
    return type(given).__module__.partition(".")[0] == "torch" and hasattr(given, "detach")


def _frames(given: NDArray[Any]) -> NDArray[np.uint8]:
    """Frames (T, H, W, 3) from these, or from (T, 3, H, W) as torchcodec has them."""
    if given.ndim == 4 and given.shape[-1] != 3 and given.shape[1] == 3:
        given = np.moveaxis(given, 1, -1)
    real = given.dtype.kind == "f"
    known = real or given.dtype == np.uint8
    if given.ndim != 4 or given.shape[-1] != 3 or not known or not given.size:
        raise UserError(
            f"frames {given.shape} {given.dtype}: give RGB frames (T, H, W, 3) or (T, 3, H, W),"
            " uint8 from 0 to 255 or floating point from 0 to 1"
        )
    if given.shape[1] * given.shape[2] > MAX_PIXELS:
        raise UserError(f"frames {given.shape}: more than {MAX_PIXELS} pixels per frame")
    if real:
        low, high = float(given.min()), float(given.max())
        if not (low >= 0 and high <= 1):  # also where one is not a number
            raise UserError(
                f"frames {given.dtype} from {low:g} to {high:g}: floating-point values go from 0 to"
                " 1; give uint8 for 0 to 255, and no normalised values"
            )
        return np.stack([np.rint(frame * 255).astype(np.uint8) for frame in given])
    return given


class NothingThereError(UserError):
    """No video was found for a word of the command line."""


def find_sources(words: Sequence[str], part: Part | None = None) -> list[Source]:
    """The videos that the words of a command line stand for, in order; see :func:`find_videos`.

    ``@list.csv``, or ``.tsv``, has a column of paths, and optionally the columns of the borders of
    parts, as :mod:`smnet.data.annotations.columns` names them.

    Args:
        words: the words.
        part: of every video; a list with parts has its own.

    Raises:
        UserError: as :func:`find_videos`; a list with an impossible part, or parts given twice.
    """
    found: dict[tuple[str, Part | None], None] = {}
    empty = ""  # the message of the first word without a video
    for word in words:
        rows = _in_table(Path(word[1:])) if word.startswith("@") else None
        if rows and part and any(own for _, own in rows):
            raise UserError(f"{word[1:]}: has parts of its own; leave out --start and --end")
        if rows:
            found.update(dict.fromkeys((path, own or part) for path, own in rows))
            continue
        try:
            paths = _videos_of(word)
        except NothingThereError as error:
            empty, paths = empty or str(error), [word]
        found.update(dict.fromkeys((path, part) for path in paths))
    if empty and len(found) == 1:
        raise UserError(empty)
    if not any(is_url(path) or Path(path).exists() for path, _ in found):
        raise UserError(f"{next(iter(found))[0]}: no such file or folder")
    return [Source(path, path, own) for path, own in found]


def find_videos(words: Sequence[str]) -> list[str]:
    """Paths of the videos that the words of a command line stand for, in order, each once.

    A word is a video file; a folder, for the videos in it and below it; a pattern with ``*`` or
    ``?``; the address of a file, a folder or a pattern; or ``@list.txt``, a file with one path per
    line. A folder with images and no video is a video itself, of frames. What a pattern matches
    besides videos is not used and counted on standard error.

    A path that does not exist is returned too. So is a word without videos, if there are other
    words. Prediction reports both among the results.

    Raises:
        UserError: no word has a video, a list of parts is given, or no path exists.
    """
    sources = find_sources(words)
    for source in sources:
        if source.part is not None:
            raise UserError(f"{source.name}: a part was given; whole videos are taken here")
    return [source.name for source in sources]


def _videos_of(word: str) -> list[str]:
    if not word:
        raise UserError("an empty name was given for a video or a folder")
    if word.startswith("@"):
        return _in_list(word[1:])
    if is_url(word):
        return address_videos(word)
    if Path(word).is_dir():
        return _in_folder(word)
    if glob.has_magic(word) and not Path(word).exists():
        return _matching(word)
    return [word]


def _matching(pattern: str) -> list[str]:
    matches = sorted(glob.glob(pattern, recursive=True))
    if not matches:
        raise NothingThereError(f"{pattern}: no file matches this pattern")
    videos: list[str] = []
    others: list[str] = []
    for match in matches:
        if Path(match).is_dir():
            videos += walk(match)
        elif is_video(match):
            videos.append(match)
        elif not is_image(match):
            others.append(match)
    if not videos:
        raise NothingThereError(
            f"{pattern}: {len(matches)} matches, but no video and no folder of frames; a file of"
            " another name is read if it is named itself"
        )
    if others:
        names = ", ".join([Path(other).name for other in others[:SHOWN]])
        line = f"{pattern}: {len(others)} files left out that are not videos: {names}"
        if len(others) > SHOWN:
            line += ", ..."
        console.print(printable(line), markup=False, soft_wrap=True)
    return videos


def _in_folder(folder: str) -> list[str]:
    videos = list(walk(folder))
    if not videos:
        raise NothingThereError(f"{folder}: no videos below this folder")
    return videos


def walk(folder: str) -> Iterator[str]:
    """The videos and folders of frames below a folder, and the folders that cannot be listed."""
    unreadable: list[str] = []
    for path, folders, names in os.walk(folder, onerror=lambda e: unreadable.append(e.filename)):
        names = sorted(filter(visible, names))
        files = [name for name in names if is_video(name)]
        if not files and any(map(is_image, names)):
            yield path
            folders.clear()
            continue
        folders[:] = sorted(filter(visible, folders))
        yield from (str(Path(path, name)) for name in files)
    yield from unreadable


def address_videos(address: str) -> list[str]:
    """The video at an address, or the videos below it or that match its pattern."""
    filesystem, path = filesystem_of(address)
    try:
        if glob.has_magic(path):
            names = [name for name in filesystem.glob(path) if visible(name.rpartition("/")[2])]
        elif is_video(path) or "http" in protocols(filesystem) or not filesystem.isdir(path):
            return [address]
        else:
            below = filesystem.find(path)
            names = [n for n in below if all(map(visible, n.removeprefix(path).split("/")))]
    except Exception as caught:  # every file system has its own exceptions
        reason = cause_of(caught)
        raise UserError(
            f"{address}: cannot be listed ({type(reason).__name__}: {reason})"
        ) from None
    videos = sorted(filesystem.unstrip_protocol(name) for name in names if is_video(name))
    if not videos:
        raise UserError(f"{address}: no videos there")
    return videos


def _in_table(file: Path) -> list[tuple[str, Part | None]] | None:
    """(path, part) of the rows of a csv; None where the file names no column of paths."""
    columns = columns_of(file, {"path"}) if file.suffix.lower() in (".csv", ".tsv") else None
    if columns is None:
        return None
    rows = []
    for number, fields in islice(table(file, columns.delimiter), 1, None):
        try:
            path = fields[columns.index["path"]]
            part, wrong = columns.part(fields)
            columns.check(f"{file}:{number}", fields, labels=False)
        except IndexError:
            raise UserError(f"{file}:{number}: fewer fields than the header") from None
        if wrong or not path:
            raise UserError(f"{file}:{number}: {wrong or 'the path is empty'}")
        beside = file.parent / path
        rows.append((str(beside) if beside.exists() and not Path(path).exists() else path, part))
    return rows


def _in_list(path: str) -> list[str]:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a list of videos ({error})") from None
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise UserError(f"{path}: an empty list")
    return names
