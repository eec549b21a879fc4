"""Frames from a folder of numbered images."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from smnet.data.video.base import Frames, Video, VideoInfo, check_size, scaled_size
from smnet.data.video.jpeg import decode_jpeg, simplejpeg
from smnet.errors import UserError

_LARGEST = 64 << 20  # bytes of an image file
_SUFFIXES = {".jpg", ".jpeg", ".png"}
_Kind = tuple[str, str]
# Names, before the number, of streams beside RGB frames, such as flow_x_ and flow_y_ of denseflow.
_NOT_RGB = re.compile(
    r"(optical[_-]?)?(flow|depth|mask|ir)([_-]?[xyuv])?[_-]*|[xyuv][_-]+", re.IGNORECASE
)
_LAST_NUMBER = re.compile(r"^(.*?)(\d+)(\D*)$", re.DOTALL)
_TEMPLATE = re.compile(r"^((?:[^%]|%%)*)%(?:0(\d))?d((?:[^%]|%%)*)$")


class FrameFolder(Video):
    """A folder of images; see :func:`smnet.data.open.open_video`.

    Frames are ordered by the last number in their names. The numbers must rise by a constant step;
    a gap is a lost frame.
    """

    def __init__(self, path: str, template: str | None, start: int | None) -> None:
        self.path = path
        names = _names(path)
        kind, numbered = (
            _by_looking(path, names) if template is None else _matching(path, names, template)
        )
        if start is not None:
            numbered = {number: name for number, name in numbered.items() if number >= start}
            if start not in numbered:
                raise UserError(f"{path}: has no frame with the requested first number {start}")
        self._files = _without_gaps(path, kind, numbered)
        with self._open(0) as image:
            self._size = image.size
            codec = (image.format or "").lower()
        self._info = VideoInfo(
            num_frames=len(self._files),
            width=self._size[0],
            height=self._size[1],
            fps=None,
            duration=None,
            codec="jpeg" if codec == "mpo" else codec,
            rotation=0,
            container="frames",
        )

    @property
    def num_frames(self) -> int:
        return len(self._files)

    @property
    def info(self) -> VideoInfo:
        return self._info

    @property
    def damage(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing is held open."""

    def jpeg(self, index: int) -> bytes | None:
        with self._open(index) as image:
            # Readers of packed sets do not expect CMYK or stereo pictures.
            plain = image.format == "JPEG" and image.mode in ("RGB", "L")
        return Path(self.path, self._files[index]).read_bytes() if plain else None

    def _frames(
        self, wanted: Sequence[int], short_side: int | None
    ) -> Iterator[tuple[int, Frames]]:
        size = scaled_size(*self._size, short_side)
        for index in wanted:
            if size == self._size and (frame := self._decode_fast(index)) is not None:
                yield index, frame
                continue
            with self._open(index) as image:
                if image.size != self._size:
                    raise UserError(
                        f"{_image_path(self.path, self._files[index])}: {image.size[0]}x"
                        f"{image.size[1]} pixels, but {self._files[0]} has"
                        f" {self._size[0]}x{self._size[1]}; all frames must have the same size"
                    )
                try:
                    # JPEG decodes at 1/2, 1/4, ... of its size; twice the target keeps quality.
                    if size != self._size:
                        image.draft("RGB", (2 * size[0], 2 * size[1]))
                    picture: Image.Image = image
                    if image.mode != "RGB":
                        picture = image.convert("RGB")
                    if size != picture.size:
                        picture = picture.resize(size, Image.Resampling.BILINEAR)
                    yield index, np.asarray(picture)
                except _BROKEN_IMAGE as error:
                    raise _bad_image(self.path, self._files[index], error) from error

    def _decode_fast(self, index: int) -> Frames | None:
        """A full-size frame by simplejpeg; None if Pillow has to read it."""
        if simplejpeg() is None or self._info.codec != "jpeg":
            return None
        try:
            with Path(self.path, self._files[index]).open("rb") as file:
                data = file.read(_LARGEST + 1)
        except OSError:
            return None
        return decode_jpeg(data, self._size) if len(data) <= _LARGEST else None

    def _open(self, index: int) -> Image.Image:
        name = self._files[index]
        try:
            # Other formats of Pillow may start programs or are poorly maintained.
            image = Image.open(Path(self.path, name), formats=("JPEG", "PNG"))
        except _BROKEN_IMAGE as error:
            raise _bad_image(self.path, name, error) from error
        try:
            check_size(_image_path(self.path, name), *image.size)
        except UserError:
            image.close()
            raise
        return image


_BROKEN_IMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def _image_path(folder: str, name: str) -> str:
    return str(Path(folder, name))


def _bad_image(folder: str, name: str, error: BaseException) -> UserError:
    path = _image_path(folder, name)
    if isinstance(error, UserError):
        return error
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path}: no such file; it was removed while the folder was read")
    if isinstance(error, PermissionError):
        return UserError(f"{path}: may not be read; check its permissions")
    if isinstance(error, UnidentifiedImageError):
        what = "is empty (0 bytes)" if _is_empty(path) else "is not a JPEG or PNG image"
        return UserError(f"{path}: {what}; extract the frames of this clip again")
    return UserError(f"{path}: a damaged image ({error}); extract the frames of this clip again")


def _is_empty(path: str) -> bool:
    try:
        return Path(path).stat().st_size == 0
    except OSError:
        return False


def _names(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(f"{path}: cannot be listed ({error.strerror})") from error


def _by_looking(path: str, names: list[str]) -> tuple[_Kind, dict[int, str]]:
    """(the names before and after the number, {number: name}) of the frames in a folder.

    Images without a number, such as a cover, are left out, and so is optical flow beside RGB.
    """
    kinds: dict[_Kind, list[tuple[int, str]]] = defaultdict(list)
    for name in names:
        stem, suffix = os.path.splitext(name)  # noqa: PTH122
        parts = _LAST_NUMBER.match(stem) if suffix.lower() in _SUFFIXES else None
        if parts:
            kinds[parts[1], parts[3] + suffix].append((int(parts[2]), name))
    if not kinds:
        seen = f"; it holds for instance {min(names)!r}" if names else "; it is empty"
        raise UserError(f"{path}: a folder without numbered .jpg, .jpeg or .png frames{seen}")
    rgb = (
        [kind for kind in kinds if not _NOT_RGB.fullmatch(kind[0])] if len(kinds) > 1 else [*kinds]
    )
    if len(rgb) != 1:
        examples = " and ".join(repr(min(kind)[1]) for kind in list(kinds.values())[:2])
        raise UserError(
            f"{path}: contains {len(kinds)} streams of frames, such as {examples}; move all but the"
            " RGB frames to another folder"
        )
    return rgb[0], _numbered(path, kinds[rgb[0]])


def _matching(path: str, names: list[str], template: str) -> tuple[_Kind, dict[int, str]]:
    parts = _TEMPLATE.match(template)
    if parts is None or "/" in template or os.sep in template:
        raise UserError(
            f"{path}: the frame template {template!r} is not a file name with one number in it,"
            " such as img_%05d.jpg"
        )
    before, after = (part.replace("%%", "%") for part in (parts[1], parts[3]))
    digits = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
    found = [(int(m[1]), name) for name in names if (m := digits.fullmatch(name))]
    found = [(number, name) for number, name in found if template % number == name]
    if not found:
        seen = f"; it holds for instance {min(names)!r}" if names else "; it is empty"
        raise UserError(f"{path}: no frame is named after {template}{seen}")
    return (before, after), _numbered(path, found)


def _numbered(path: str, frames: list[tuple[int, str]]) -> dict[int, str]:
    numbered: dict[int, str] = {}
    for number, name in sorted(frames):
        if number in numbered:
            raise UserError(f"{path}: {numbered[number]} and {name} have the same number")
        numbered[number] = name
    return numbered


def _without_gaps(path: str, kind: _Kind, numbered: dict[int, str]) -> list[str]:
    """The names in order. A constant step other than 1 is subsampling, not a gap."""
    numbers = list(numbered)
    steps = [following - number for number, following in pairwise(numbers)]
    step = min(steps, default=1)
    for number, actual in zip(numbers, steps, strict=False):
        if actual != step:
            before, after = numbered[number], numbered[number + actual]
            width = len(before) - len(kind[0]) - len(kind[1])
            lost = f"{kind[0]}{number + step:0{width}d}{kind[1]}"
            raise UserError(
                f"{path}: {lost} is missing, between {before} and {after};"
                " extract the frames of this clip again"
            )
    return list(numbered.values())
