"""Uploads that attack a server, and a file and an address that nobody may touch."""

from __future__ import annotations

import gzip
import io
import itertools
import socket
import struct
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.videos import moving_frames, write_video

CLIPS = {
    "clip.mp4": {"bframes": 2},
    "clip.webm": {"codec": "libvpx", "options": {"deadline": "realtime"}},
    "clip.avi": {"codec": "mpeg4"},
    "clip.mkv": {},
    "clip.gif": {"codec": "gif"},
}


class Canary:
    """A file and an address that nobody may touch."""

    def __init__(self, folder: Path) -> None:
        self.file = write_video(folder / "secret.mp4", moving_frames(8, 32, 32))
        self.calls = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}/secret.mp4"
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.calls += 1
            connection.close()

    def close(self) -> None:
        self._socket.close()


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + b"\x2c" + bytes(9) + b";"


def bmp(width: int, height: int) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 154, 0, 0, 54) + head + bytes(100)


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("clip.mp4", content)
    return file.getvalue()


def playlists(path: str, address: str) -> dict[str, bytes]:
    """Files that name another file or address."""
    hls = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n{}#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
    key = '#EXT-X-KEY:METHOD=AES-128,URI="{}"\n'
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><image href="{}"/></svg>'
    rest = "c=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n"
    return {
        "file.m3u8": hls.format("", f"file://{path}").encode(),
        "path.m3u8": hls.format("", path).encode(),
        "address.m3u8": hls.format("", address).encode(),
        "key.m3u8": hls.format(key.format(address), path).encode(),
        "subfile.m3u8": hls.format("", f"subfile,,start,0,end,9,,:{path}").encode(),
        "concat.m3u8": hls.format("", f"concat:{path}|{path}").encode(),
        "playlist.mp4": hls.format("", address).encode(),
        "concat.txt": f"ffconcat version 1.0\nfile {path}\n".encode(),
        "concat.mp4": f"ffconcat version 1.0\nfile '{address}'\n".encode(),
        "old.mp4": f"file '{path}'\n".encode(),
        "list.sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\n{rest}".encode(),
        "x.svg": svg.format(address).encode(),
        "entity.svg": f'<!DOCTYPE s [<!ENTITY x SYSTEM "{address}">]><svg>&x;</svg>'.encode(),
        "laughs.svg": b"<!DOCTYPE s ["
        + b"".join(b'<!ENTITY a%d "%s">' % (k, b"&a%d;" % (k - 1) * 10) for k in range(1, 10))
        + b"]><svg>&a9;</svg>",
        "manifest.mpd": f"<MPD><BaseURL>{address}</BaseURL></MPD>".encode(),
        "asx.asf": f'<asx><entry><ref href="{address}"/></entry></asx>'.encode(),
        "list.pls": f"[playlist]\nFile1={address}\n".encode(),
        "image2-%03d.png": png(16, 16),
        f"{path}": b"text",
        "index.arrow#0": b"ARROW1" + bytes(64),
    }


def others(width: int = 100_000) -> dict[str, bytes]:
    """Bombs, headers of huge frames, and files of other types."""
    return {
        "bomb.zip": zipped(bytes(1 << 24)),
        "bomb.gz": gzip.compress(bytes(1 << 24)),
        "bomb.svgz": gzip.compress(b"<svg>" + b"<g>" * (1 << 20)),
        "wide.y4m": b"YUV4MPEG2 W%d H%d F25:1\nFRAME\n" % (width, width) + bytes(1000),
        "wide.gif": gif(65535, 65535),
        "wide.pgm": b"P5 %d %d 255\n" % (width, width),
        "wide.bmp": bmp(width, width),
        "wide.png": png(width, width),
        "empty.mp4": b"",
        "zeros.mp4": bytes(4096),
        "pickle.npy": b"\x93NUMPY\x01\x00" + b"cos\nsystem\n(S'true'\ntR.",
        "page.html": b"<!DOCTYPE html><script>alert(1)</script>",
        "program.mp4": b"\x7fELF" + bytes(200),
        "sound.wav": b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0"
        + b"\x40\x1f\0\0" * 2
        + bytes(8),
        "../../../../etc/passwd": b"root",
        "..\\..\\boot.ini": b"[boot]",
        "....//....//x.mp4": b"text",
        "%2e%2e%2fx.mp4": b"text",
        "a\x00b.mp4": b"text",
        "\x1b[31m.mp4": b"text",
        "CON.mp4": b"text",
        "-i.mp4": b"text",
        "$(touch x).mp4": b"text",
        "long" * 1000 + ".mp4": b"text",
    }


def whole_clips(folder: Path) -> dict[str, bytes]:
    """Small clips in several containers."""
    frames = moving_frames(12, 32, 32)
    return {
        name: write_video(folder / name, frames, **options).read_bytes()  # type: ignore[arg-type]
        for name, options in CLIPS.items()
    }


def huge(clip: bytes, width: int, height: int) -> bytes:
    """An MP4 clip of 32 x 32 pixels whose headers state another size."""
    short, wide = struct.pack(">HH", 32, 32), struct.pack(">II", 32 << 16, 32 << 16)
    large = struct.pack(">HH", min(width, 65535), min(height, 65535))
    return clip.replace(short, large).replace(
        wide, struct.pack(">II", min(width, 65535) << 16, min(height, 65535) << 16)
    )


def campaign(folder: Path, canary: Canary, seed: int = 0) -> Iterator[tuple[str, bytes, bool]]:
    """Uploads without end: (name, content, whether it may be a video)."""
    rng = np.random.default_rng(seed)
    clips = whole_clips(folder)
    fixed = [*playlists(str(canary.file), canary.address).items(), *others().items()]
    yield from ((name, content, False) for name, content in fixed)
    for number in itertools.count():
        name, clip = list(clips.items())[number % len(clips)]
        kind = number % 4
        if kind == 0:
            yield name, clip[: int(rng.integers(len(clip)))], True
        elif kind == 1:
            mutated = bytearray(clip)
            for place in rng.integers(0, len(clip), int(rng.integers(1, 40))):
                mutated[place] = rng.integers(256)
            yield name, bytes(mutated), True
        elif kind == 2:
            first, last = sorted(rng.integers(0, len(clip), 2))
            yield name, clip[:first] + clip[last:] + clip[first:last], True
        else:
            side = int(rng.choice([8192, 20_000, 65_535]))
            wrong = (
                huge(clips["clip.mp4"], side, side),
                gif(side, side),
                png(side, 4),
                rng.bytes(999),
            )
            yield f"{number}.mp4", wrong[number // 4 % len(wrong)], True
