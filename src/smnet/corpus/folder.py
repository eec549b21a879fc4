"""The folder of results, local or at an address such as s3://bucket/results."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

from smnet.data.addresses import cause_of, filesystem_of, is_url
from smnet.errors import UserError
from smnet.files import alone_in, atomic_path, check_outputs, write_text


class Folder:
    """Files that appear when they are complete.

    A local file is renamed into place. At an address a file is put in one piece: the stores of
    objects that fsspec knows (s3, gs, az) show it when all of it is there.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        self.place = os.fspath(place)
        self._remote = is_url(self.place)
        self._files: Any = None
        if self._remote:
            self._files, self._root = filesystem_of(self.place)

    def __str__(self) -> str:
        return self.place

    def path(self, name: str) -> str:
        """The path or the address of a file."""
        return f"{self.place.rstrip('/')}/{name}" if self._remote else str(Path(self.place, name))

    def names(self, pattern: str) -> list[str]:
        """The files that match a pattern, sorted."""
        if not self._remote:
            here = Path(self.place)
            return sorted(str(path.relative_to(here)) for path in here.glob(pattern))
        with self._errors("listed"):
            self._files.invalidate_cache()
            root = f"{self._root.rstrip('/')}/"
            return sorted(name.removeprefix(root) for name in self._files.glob(root + pattern))

    def check(self, names: Iterable[str]) -> None:
        """Refuse to replace files of another program.

        Raises:
            UserError: one of ``names`` is such a file, or the folder cannot be written.
        """
        if not self._remote:
            check_outputs({f"--out {name}": Path(self.place, name) for name in names}, ())
            return
        for name in names:
            if self.names(name):
                raise UserError(
                    f"{self.path(name)} exists, and no results of smnet beside it; choose another"
                    " --out, or remove it"
                )

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """A file, to be read."""
        if not self._remote:
            with Path(self.place, name).open("rb") as file:
                yield file
            return
        with self._errors("read"), self._files.open(f"{self._root}/{name}", "rb") as file:
            yield file

    @contextmanager
    def write(self, name: str) -> Iterator[Path]:
        """A local path, whose content becomes the file at the end."""
        if not self._remote:
            with atomic_path(Path(self.place, name)) as temporary:
                yield temporary
            return
        with tempfile.TemporaryDirectory(prefix="smnet-") as folder:
            temporary = Path(folder, "file")
            yield temporary
            with self._errors("written"):
                self._files.put_file(str(temporary), f"{self._root}/{name}")

    def write_text(self, name: str, text: str) -> None:
        """Write a text file."""
        if not self._remote:
            write_text(Path(self.place, name), text)
            return
        with self.write(name) as path:
            path.write_text(text, encoding="utf-8")

    def hold(self, name: str) -> Any:
        """A context in which no other process of this machine holds the same name.

        At an address there are no locks: two processes do the same work twice, and the merged
        tables have each row once.
        """
        return nullcontext() if self._remote else alone_in(Path(self.place, name))

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as caught:  # every file system has its own exceptions
            reason = cause_of(caught)
            kind = type(reason).__name__
            raise UserError(f"{self.place}: cannot be {what} ({kind}: {reason})") from caught
