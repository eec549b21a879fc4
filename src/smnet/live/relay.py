"""Protocols that PyAV's wheels lack, such as SRT, through the program ``ffmpeg``."""

from __future__ import annotations

import io
import os
import shutil
import subprocess

PROGRAM = "ffmpeg"


def can_relay() -> bool:
    """Whether the program is installed."""
    return shutil.which(PROGRAM) is not None


class Relay(io.RawIOBase):
    """The stream at an address, as ffmpeg passes it on in MPEG-TS, without decoding it.

    The program ends with the last reference to this object.

    Args:
        address: for ffmpeg.
        protocols: what it may use.
        silence: seconds without a packet after which the stream ends.
    """

    def __init__(self, address: str, protocols: str, silence: float) -> None:
        limits = ["-protocol_whitelist", protocols, "-timeout", str(round(1e6 * silence))]
        wanted = ["-map", "0:v:0", "-c", "copy", "-flush_packets", "1", "-f", "mpegts", "pipe:1"]
        quiet = [PROGRAM, "-nostdin", "-loglevel", "quiet", "-analyzeduration", "1000000"]
        self._process = subprocess.Popen(
            [*quiet, *limits, "-i", address, *wanted],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        assert self._process.stdout is not None
        data = os.read(self._process.stdout.fileno(), len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
        super().close()
