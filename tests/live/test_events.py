"""Events by hand: two thresholds, a shortest length, one class at a time."""

from __future__ import annotations

import numpy as np
import pytest

from smnet.live.events import Event, EventRule
from smnet.timeline.segments import Limits


def play(rule: EventRule, rows: list[tuple[float, ...]], step: float = 0.25) -> list[Event]:
    events = []
    for number, row in enumerate(rows):
        events += rule.add(number * step, np.array(row, np.float32))
    return events


def brief(events: list[Event]) -> list[tuple[str, str, float, float | None]]:
    return [(e.type, e.label, e.start, e.end) for e in events]


def test_an_event_begins_where_the_run_began() -> None:
    events = play(EventRule(("a", "b")), [(0.1, 0), (0.4, 0), (0.6, 0), (0.35, 0), (0.2, 0)])
    assert brief(events) == [("start", "a", 0.25, None), ("end", "a", 0.25, 1.0)]
    assert len({event.id for event in events}) == 1
    assert events[-1].top_score == pytest.approx(0.6)


def test_a_run_that_stays_below_the_upper_threshold_is_none() -> None:
    assert play(EventRule(("a",)), [(0.4,)] * 8) == []


def test_the_shortest_length() -> None:
    rule = EventRule(("a",), Limits(0.5, 0.3, 0.5))
    assert play(rule, [(0.9,), (0.9,), (0.1,)]) == []
    assert brief(play(rule, [(0.9,)] * 3)) == [("start", "a", 0.0, None)]


def test_updates_once_a_second() -> None:
    events = play(EventRule(("a",)), [(0.9,)] * 13)
    assert [e.type for e in events] == ["start", "update", "update", "update"]


def test_the_best_class_holds_the_moment_unless_they_may_overlap() -> None:
    rows = [(0.6, 0.1), (0.6, 0.7), (0.1, 0.7)]
    alone = brief(play(EventRule(("a", "b")), rows))
    assert alone == [
        ("start", "a", 0.0, None),
        ("end", "a", 0.0, 0.25),
        ("start", "b", 0.25, None),
    ]
    both = brief(play(EventRule(("a", "b"), overlap=True), rows))
    assert both == [
        ("start", "a", 0.0, None),
        ("start", "b", 0.25, None),
        ("end", "a", 0.0, 0.5),
    ]


def test_background_competes_and_is_not_reported() -> None:
    assert play(EventRule(("none", "a")), [(0.6, 0.4)] * 4) == []


def test_limits_of_a_class() -> None:
    rule = EventRule(("a", "b"), by_class={"b": Limits(0.2, 0.1)})
    assert brief(play(rule, [(0.25, 0.25)])) == [("start", "b", 0.0, None)]


def test_the_end_of_the_stream_ends_events() -> None:
    rule = EventRule(("a",))
    play(rule, [(0.9,)] * 3)
    assert len(rule.open) == 1
    assert brief(rule.end()) == [("end", "a", 0.0, 0.5)]
    assert rule.end() == []
