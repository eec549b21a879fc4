"""Where the time of a prediction run went: decoding, inference or the caller."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Utilisation:
    """Times of one run of :meth:`smnet.inference.recognizer.Recognizer.predict_many`, seconds.

    Attributes:
        clips, failed: videos that were scored, and that gave an error instead.
        threads: decoding threads; 0 decodes in the caller's thread.
        inference: time in the network.
        waiting: time that the network waited for decoded videos.
        decoding: sum over all decoding threads.
        elapsed: from the start to the last prediction, including the caller's own time between
            predictions, during which decoding continues.
    """

    clips: int = 0
    failed: int = 0
    threads: int = 0
    inference: float = 0.0
    waiting: float = 0.0
    decoding: float = 0.0
    elapsed: float = 0.0

    @property
    def wall(self) -> float:
        """Seconds of the run, without the caller's own time between predictions."""
        return self.inference + self.waiting

    @property
    def decoding_share(self) -> float:
        """How busy the decoding threads were, in [0, 1]."""
        total = max(self.elapsed, self.wall, 1e-9) * max(self.threads, 1)
        return min(self.decoding / total, 1.0)

    @property
    def bottleneck(self) -> str:
        """``"decoding"``, ``"inference"``, ``"decoding and inference"`` or ``"the caller"``."""
        if self.elapsed - self.wall > max(self.inference, self.waiting):
            return "the caller"
        if self.inference < self.waiting:
            return "decoding"
        # On shared cores each looks busy while the other works.
        return "decoding and inference" if self.decoding_share >= 0.75 else "inference"

    def __str__(self) -> str:
        wall = max(self.wall, 1e-9)
        failed = f" ({self.failed} more failed)" if self.failed else ""
        threads = f"{self.threads} decoding thread{'s' * (self.threads != 1)}"
        return (
            f"{self.clips} videos in {wall:.1f} s{failed}, {self.clips / wall:.1f} videos/s;"
            f" bottleneck: {self.bottleneck} (inference {self.inference / wall:.0%} busy,"
            f" {threads} {self.decoding_share:.0%})"
        )
