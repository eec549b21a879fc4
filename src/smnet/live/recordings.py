"""The events of streams, measured on labelled recordings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from smnet.console import printable, progress_bar
from smnet.data.loading.windows import frame_times, recording_end
from smnet.data.open import open_video
from smnet.evaluation.detection import Detection, Recording, Segment
from smnet.live.scoring import Scorer
from smnet.live.watch import watch
from smnet.timeline.run import Labelled
from smnet.timeline.segments import Limits


def evaluate_streams(
    scorer: Scorer,
    data: Labelled,
    *,
    rate: float | None = None,
    limits: Limits | None = None,
    by_class: Mapping[str, Limits] | None = None,
    overlap: bool = False,
) -> Detection:
    """Stream every recording, as fast as it can be read, and measure the events.

    An event is a segment from its start to its end, with its highest score. It knows nothing of
    what comes after it, unlike the segments of a timeline.

    Args:
        scorer: the network.
        data: of :func:`smnet.timeline.run.read_recordings`.
        rate, limits, by_class, overlap: see :func:`smnet.live.watch.watch`.
    """
    recordings = []
    for path, truth in data.parts.items():
        with open_video(path) as video:
            duration = recording_end(frame_times(video), video.fps)
        found = []
        with progress_bar() as bar:
            row = bar.add_task(printable(Path(path).name), total=int(duration), note="")
            scorer.restart()
            for answer in watch(
                scorer, path, rate=rate, limits=limits, by_class=by_class, overlap=overlap
            ):
                bar.update(row, completed=int(answer.seconds), note="s")
                found += [
                    Segment(event.start, event.end, event.label, event.top_score)
                    for event in answer.events
                    if event.type == "end" and event.end is not None
                ]
        recordings.append(Recording(path, duration, truth, tuple(found)))
    return Detection(recordings, data.classes)
