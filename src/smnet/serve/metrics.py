"""Counts and durations for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "smnet_requests_total", "Answered requests.", ["path", "status"], registry=registry
        )
        self.waiting = Gauge(
            "smnet_requests_in_progress", "Accepted and not yet answered.", registry=registry
        )
        self.gone = Counter(
            "smnet_clients_gone_total", "Clients that left before the answer.", registry=registry
        )
        self.reading = Histogram(
            "smnet_decode_seconds", "Decoding of a video.", buckets=_SECONDS, registry=registry
        )
        self.unreadable = Counter(
            "smnet_unreadable_total", "Videos that could not be read.", registry=registry
        )
        self.scoring = Histogram(
            "smnet_score_seconds",
            "Run of a network on a batch.",
            ["model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch = Histogram(
            "smnet_batch_videos",
            "Videos of a batch.",
            ["model"],
            buckets=(1, 2, 4, 8, 16, 32),
            registry=registry,
        )
        self.cameras = Gauge("smnet_cameras", "Open streams of cameras.", registry=registry)

    def ran(self, model: str, videos: int, seconds: float) -> None:
        """Count a run of a network."""
        self.scoring.labels(model).observe(seconds)
        self.batch.labels(model).observe(videos)

    def text(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self._registry)
