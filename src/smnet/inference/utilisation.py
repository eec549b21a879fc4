"""Where the time of a prediction run went: decoding, inference or the caller."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Utilisation:
    """Times of one run of :func:`smnet.inference.pipeline.in_batches`, seconds.

    Attributes:
        clips, failed: videos that were scored, and that gave an error instead.
        threads: decoding threads or processes; 0 decodes in the caller's thread.
        inference: time in the network.
        waiting: time that the network waited for decoded videos.
        decoding: sum over all of ``threads``.
        reading: the same for fetching files from addresses and archives.
        elapsed: from the start to the last prediction, including the caller's own time between
            predictions, during which decoding continues.
    """

    clips: int = 0
    failed: int = 0
    threads: int = 0
    inference: float = 0.0
    waiting: float = 0.0
    decoding: float = 0.0
    reading: float = 0.0
    elapsed: float = 0.0

    @property
    def wall(self) -> float:
        """Seconds of the run, without the caller's own time between predictions."""
        return self.inference + self.waiting

    @property
    def decoding_share(self) -> float:
        """How busy the decoding threads were with decoding, in [0, 1]."""
        return self._share(self.decoding)

    @property
    def reading_share(self) -> float:
        """How busy the decoding threads were with fetching files, in [0, 1]."""
        return self._share(self.reading)

    @property
    def bottleneck(self) -> str:
        """``"reading"``, ``"decoding"``, ``"inference"``, ``"decoding and inference"`` or
        ``"the caller"``."""
        if self.elapsed - self.wall > max(self.inference, self.waiting):
            return "the caller"
        if self.inference < self.waiting:
            return "reading" if self.reading > self.decoding else "decoding"
        # On shared cores each looks busy while the other works.
        return "decoding and inference" if self.decoding_share >= 0.75 else "inference"

    @property
    def shares(self) -> str:
        """The bottleneck, and how busy each stage was."""
        threads = f"{self.threads} decoding thread{'s' * (self.threads != 1)}"
        reading = f", reading {self.reading_share:.0%}" if self.reading_share >= 0.005 else ""
        return (
            f"bottleneck: {self.bottleneck} (inference"
            f" {self.inference / max(self.wall, 1e-9):.0%} busy,"
            f" {threads} {self.decoding_share:.0%}{reading})"
        )

    def __str__(self) -> str:
        wall = max(self.wall, 1e-9)
        failed = f" ({self.failed} more failed)" if self.failed else ""
        return (
            f"{self.clips} videos in {wall:.1f} s{failed}, {self.clips / wall:.1f} videos/s;"
            f" {self.shares}"
        )

    def _share(self, seconds: float) -> float:
        total = max(self.elapsed, self.wall, 1e-9) * max(self.threads, 1)
        return min(seconds / total, 1.0)
