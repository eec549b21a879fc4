"""The tables below were worked out by hand from the rules, never copied from the program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smnet.data.sampling.rules import (
    STRATEGIES,
    check,
    clips_of_validation,
    list_strategies,
    sample,
)
from smnet.errors import UserError

FIXED = [
    # strategy, mode, n, T, other arguments, expected clips
    # uniform: centres for any n; clip k of K at (k + 1/2)/K of a segment
    ("uniform", "test", 80, 8, {}, [[5, 15, 25, 35, 45, 55, 65, 75]]),
    ("uniform", "val", 47, 8, {}, [[2, 8, 14, 20, 26, 32, 38, 44]]),
    ("uniform", "test", 3, 8, {}, [[0, 0, 0, 1, 1, 2, 2, 2]]),
    ("uniform", "train", 3, 8, {}, [[0, 0, 0, 1, 1, 2, 2, 2]]),
    ("uniform", "test", 8, 8, {}, [[0, 1, 2, 3, 4, 5, 6, 7]]),
    ("uniform", "train", 8, 8, {}, [[0, 1, 2, 3, 4, 5, 6, 7]]),
    ("uniform", "test", 1, 3, {}, [[0, 0, 0]]),
    ("uniform", "test", 80, 4, {"clips": 2}, [[5, 25, 45, 65], [15, 35, 55, 75]]),
    ("uniform", "test", 36, 3, {"clips": 3}, [[2, 14, 26], [6, 18, 30], [10, 22, 34]]),
    ("uniform", "test", 20, 2, {"frames_per_segment": 5}, [[4, 5, 6, 7, 8, 12, 13, 14, 15, 16]]),
    ("uniform", "test", 3, 2, {"frames_per_segment": 5}, [[0, 1, 2, 2, 2, 0, 1, 2, 2, 2]]),
    # dense: span 57 of 100 frames leaves the starts 0..43
    ("dense", "test", 100, 8, {}, [[21, 29, 37, 45, 53, 61, 69, 77]]),
    (
        "dense",
        "test",
        100,
        8,
        {"clips": 3},
        [
            [0, 8, 16, 24, 32, 40, 48, 56],
            [21, 29, 37, 45, 53, 61, 69, 77],
            [43, 51, 59, 67, 75, 83, 91, 99],
        ],
    ),
    ("dense", "test", 40, 8, {}, [[0, 8, 16, 24, 32, 0, 8, 16]]),
    ("dense", "train", 40, 8, {}, [[0, 8, 16, 24, 32, 0, 8, 16]]),
    ("dense", "test", 100, 8, {"window": 16}, [[42, 44, 46, 48, 50, 52, 54, 56]]),
    # tsn: validation freezes at n <= T + L - 1, the test does not
    ("tsn", "val", 8, 8, {}, [[0, 0, 0, 0, 0, 0, 0, 0]]),
    ("tsn", "val", 9, 8, {}, [[0, 1, 2, 3, 5, 6, 7, 8]]),
    ("tsn", "test", 8, 8, {}, [[0, 1, 2, 3, 4, 5, 6, 7]]),
    ("tsn", "test", 3, 8, {}, [[0, 0, 0, 1, 1, 2, 2, 2]]),
    ("tsn", "test", 47, 8, {}, [[2, 8, 14, 20, 26, 32, 38, 44]]),
    ("tsn", "train", 7, 8, {}, [[0, 0, 0, 0, 0, 0, 0, 0]]),
    ("tsn", "train", 8, 8, {}, [[0, 1, 2, 3, 4, 5, 6, 7]]),
    ("tsn", "train", 15, 8, {}, [[0, 1, 2, 3, 4, 5, 6, 7]]),
    ("tsn-random", "val", 47, 8, {}, [[2, 8, 14, 20, 26, 32, 38, 44]]),
    ("tsn-random", "test", 7, 8, {"clips": 2}, [[0] * 8, [0] * 8]),
    # twice: centres, then beginnings
    (
        "twice",
        "test",
        47,
        8,
        {"clips": 2},
        [[2, 8, 14, 20, 26, 32, 38, 44], [0, 5, 11, 17, 23, 29, 35, 41]],
    ),
    ("twice", "test", 3, 4, {"clips": 2}, [[0, 1, 1, 2], [0, 0, 1, 2]]),
    ("twice", "val", 8, 8, {}, [[0] * 8]),
    # videomae: the same, sorted, every second one
    (
        "videomae",
        "test",
        47,
        8,
        {"clips": 2},
        [[0, 5, 11, 17, 23, 29, 35, 41], [2, 8, 14, 20, 26, 32, 38, 44]],
    ),
    ("videomae", "test", 3, 4, {"clips": 2}, [[0, 0, 1, 2], [0, 1, 1, 2]]),
    # dense windows of 64 frames
    (
        "tsm-dense",
        "test",
        163,
        4,
        {"clips": 10},
        [[s, s + 16, s + 32, s + 48] for s in (0, 11, 22, 33, 44, 55, 66, 77, 88, 99)],
    ),
    ("tsm-dense", "test", 163, 4, {"clips": 1}, [[0, 16, 32, 48]]),
    ("tsm-dense", "train", 65, 8, {}, [[0, 8, 16, 24, 32, 40, 48, 56]]),
    ("tsm-dense", "val", 40, 8, {}, [[0, 8, 16, 24, 32, 0, 8, 16]]),
    ("tam-dense", "val", 164, 8, {}, [[50, 58, 66, 74, 82, 90, 98, 106]]),
    ("tam-dense", "test", 164, 4, {"clips": 1}, [[50, 66, 82, 98]]),
    (
        "tam-dense",
        "test",
        164,
        4,
        {"clips": 3},
        [[0, 16, 32, 48], [50, 66, 82, 98], [100, 116, 132, 148]],
    ),
    ("tam-dense", "val", 61, 10, {}, [[1, 7, 13, 19, 25, 31, 37, 43, 49, 55]]),
    ("tam-dense", "val", 60, 10, {}, [[0, 6, 12, 18, 24, 30, 36, 42, 48, 54]]),
    ("tam-dense", "train", 61, 10, {}, [[0, 6, 12, 18, 24, 30, 36, 42, 48, 54]]),
    # tam uniform-N
    ("tam-uniform", "test", 47, 8, {}, [[2, 8, 14, 20, 26, 32, 38, 44]]),
    (
        "tam-uniform",
        "test",
        47,
        8,
        {"clips": 2},
        [[0, 5, 11, 17, 23, 29, 35, 41], [4, 9, 15, 21, 27, 33, 39, 45]],
    ),
    ("tam-uniform", "test", 30, 3, {"clips": 3}, [[0, 10, 20], [4, 14, 24], [9, 19, 29]]),
    ("tam-uniform", "test", 4, 8, {"clips": 2}, [[0, 0, 1, 1, 2, 2, 3, 3]] * 2),
    # tdn: five frames per segment; short videos freeze in the test as well
    ("tdn", "test", 20, 2, {"frames_per_segment": 5}, [[4, 5, 6, 7, 8, 12, 13, 14, 15, 16]]),
    ("tdn", "test", 12, 8, {"frames_per_segment": 5}, [[0, 1, 2, 3, 4] * 8]),
    (
        "tdn",
        "test",
        13,
        8,
        {"frames_per_segment": 5},
        [[f for p in (0, 1, 2, 3, 5, 6, 7, 8) for f in range(p, p + 5)]],
    ),
    ("tdn", "train", 3, 2, {"frames_per_segment": 5}, [[0, 1, 2, 2, 2, 0, 1, 2, 2, 2]]),
    # mmaction2: half-to-even rounding, and an index n that wraps to 0
    ("mmaction2", "train", 4, 8, {}, [[0, 0, 1, 2, 2, 2, 3, 0]]),
    ("mmaction2", "train", 3, 8, {}, [[0, 0, 1, 1, 2, 2, 2, 0]]),
    ("mmaction2", "test", 3, 8, {}, [[0, 0, 0, 1, 1, 2, 2, 2]]),
    ("mmaction2", "val", 8, 8, {}, [[0, 1, 2, 3, 4, 5, 6, 7]]),
    ("mmaction2", "test", 3, 4, {"clips": 2}, [[0, 1, 1, 2], [0, 0, 1, 2]]),
]


@pytest.mark.parametrize(("strategy", "mode", "n", "segments", "others", "expected"), FIXED)
def test_tables(
    strategy: str, mode: Any, n: int, segments: int, others: dict[str, Any], expected: list[Any]
) -> None:
    indices = sample(n, segments, mode=mode, strategy=strategy, **others)
    assert indices.dtype == np.int64
    assert indices.tolist() == expected


RANDOM = [
    # strategy, mode, n, T, other arguments, what each column can be
    ("uniform", "train", 10, 4, {}, [{0, 1}, {2, 3, 4}, {5, 6}, {7, 8, 9}]),
    ("uniform", "train", 8, 2, {"frames_per_segment": 3}, [{0, 1, 2}, {3, 4, 5}]),
    ("dense", "train", 60, 2, {}, [{*range(28)}, {*range(32, 60)}]),
    ("tsn", "train", 11, 4, {}, [{0, 1}, {2, 3}, {4, 5}, {6, 7}]),
    ("tsn-random", "test", 11, 4, {}, [{0, 1}, {2, 3}, {4, 5}, {6, 7}]),
    ("twice", "train", 11, 4, {}, [{0, 1}, {2, 3}, {4, 5}, {6, 7}]),
    ("videomae", "val", 11, 4, {}, [{0, 1}, {2, 3}, {4, 5}, {6, 7}]),
    ("mmaction2", "train", 11, 4, {}, [{0, 1}, {2, 3}, {4, 5}, {6, 7}]),
    ("tam-uniform", "train", 11, 4, {}, [{0, 1}, {2, 3}, {4, 5}, {6, 7}]),
    ("tdn", "train", 8, 2, {"frames_per_segment": 5}, [{0, 1}, {2, 3}]),
    ("tsm-dense", "train", 67, 4, {}, [{0, 1, 2}, {16, 17, 18}, {32, 33, 34}, {48, 49, 50}]),
    ("tsm-dense", "val", 67, 4, {}, [{0, 1, 2}, {16, 17, 18}, {32, 33, 34}, {48, 49, 50}]),
    ("tam-dense", "train", 67, 4, {}, [{0, 1, 2}, {16, 17, 18}, {32, 33, 34}, {48, 49, 50}]),
]


def by_the_words(name: str, n: int, t: int, clips: int) -> list[list[int]]:
    """The deterministic rules once more, a frame at a time, from their description alone."""
    tick = n / t
    centres = [int(tick / 2 + tick * i) for i in range(t)]
    starts = [int(tick * i) for i in range(t)]
    frozen = centres if n > t else [0] * t
    spread = [int(k * max(0, n - 64) / max(clips - 1, 1)) for k in range(clips)]
    inside = [int(k * max(0.0, tick - 1) / max(clips - 1, 1)) for k in range(clips)]
    both = sorted(centres + starts)
    return {
        "tsn val": [frozen],
        "tdn test": [frozen],
        "tsn test": [centres],
        "twice test": [centres, starts],
        "videomae test": [both[0::2], both[1::2]],
        "mmaction2 test": [centres, starts][:clips],
        "tsm-dense test": [[(i * (64 // t) + s) % n for i in range(t)] for s in spread],
        "tam-dense test": [[(i * (64 // t) + s) % n for i in range(t)] for s in spread],
        "tam-dense val": [[(i * (64 // t) + max(1, n - 63) // 2) % n for i in range(t)]],
        "tam-uniform test": [[int(s + tick * i) % n for i in range(t)] for s in inside],
    }[name]


@pytest.mark.parametrize(
    ("name", "clips"),
    [
        *((name, 1) for name in ("tsn val", "tsn test", "tdn test", "mmaction2 test")),
        *((name, 2) for name in ("twice test", "videomae test", "mmaction2 test")),
        *((name, k) for name in ("tsm-dense test", "tam-dense test") for k in (2, 10)),
        ("tam-dense val", 1),
        ("tam-uniform test", 2),
        ("tam-uniform test", 10),
    ],
)
def test_published_rules_for_every_length(name: str, clips: int) -> None:
    strategy, mode = name.split()
    for t in (4, 8, 16):
        for n in range(1, 321):
            got = sample(n, t, mode=mode, strategy=strategy, clips=clips)  # type: ignore[arg-type]
            assert got.tolist() == by_the_words(name, n, t, clips), (n, t)


@pytest.mark.parametrize(("strategy", "mode", "n", "segments", "others", "expected"), RANDOM)
def test_random_draws_reach_exactly_these(
    strategy: str, mode: Any, n: int, segments: int, others: dict[str, Any], expected: list[Any]
) -> None:
    rng = np.random.default_rng(3)
    step = others.get("frames_per_segment", 1)
    draws = np.concatenate(
        [sample(n, segments, mode=mode, strategy=strategy, rng=rng, **others) for _ in range(400)]
    )
    assert [set(column) for column in draws[:, ::step].T.tolist()] == expected


def test_fewer_places_than_segments_gives_a_sorted_draw() -> None:
    rng = np.random.default_rng(0)
    draws = sample(10, 8, mode="train", strategy="tdn", frames_per_segment=5, clips=200, rng=rng)
    draws = draws[:, ::5]
    assert (np.diff(draws, axis=1) >= 0).all()
    assert set(draws.ravel().tolist()) == set(range(6))


numbers = st.integers(1, 300)
segments = st.integers(1, 64)


@given(
    n=numbers,
    t=segments,
    strategy=st.sampled_from(list_strategies()),
    mode=st.sampled_from(["train", "val", "test"]),
    length=st.integers(1, 6),
    seed=st.integers(0, 2**32),
    clips=st.integers(1, 4),
)
@settings(max_examples=400, deadline=None)
def test_always_in_range_and_repeatable(
    n: int, t: int, strategy: str, mode: Any, length: int, seed: int, clips: int
) -> None:
    rule = STRATEGIES[strategy]
    if rule.single_frame:
        length = 1
    allowed = {"train": None, "val": rule.val_clips, "test": rule.test_clips}[mode]
    if allowed is not None:
        clips = allowed[clips % len(allowed)]

    def draw() -> np.ndarray:
        return sample(
            n,
            t,
            mode=mode,
            strategy=strategy,
            clips=clips,
            frames_per_segment=length,
            rng=np.random.default_rng(seed),
        )

    first = draw()
    assert first.shape == (clips, t * length)
    assert first.dtype == np.int64
    assert first.min() >= 0
    assert first.max() < n
    assert np.array_equal(first, draw())
    runs = first.reshape(clips, t, length)
    assert np.array_equal(runs, np.minimum(runs[:, :, :1] + np.arange(length), n - 1))
    if "dense" not in strategy and not (strategy == "mmaction2" and n < t):
        assert (np.diff(runs[:, :, 0], axis=1) >= 0).all()


@given(n=numbers, t=segments, clips=st.integers(1, 5))
@settings(deadline=None)
def test_uniform_test_clips_stay_in_their_segments(n: int, t: int, clips: int) -> None:
    indices = sample(n, t, mode="test", clips=clips)
    i = np.arange(t)
    assert (indices >= i * n // t).all()
    assert (indices <= (i + 1) * n // t).all()
    if n > 1 and t > 1:
        assert indices.any(axis=1).all(), "a short video must not freeze on its first frame"
    if n >= t * clips:
        assert len(np.unique(indices)) == t * clips, "views of a long video never share a frame"


@given(n=st.integers(1, 120), t=segments)
@settings(max_examples=60, deadline=None)
def test_uniform_training_reaches_every_frame(n: int, t: int) -> None:
    lowest = sample(n, t, mode="train", rng=_Extreme(first=True))[0]  # type: ignore[arg-type]
    highest = sample(n, t, mode="train", rng=_Extreme(first=False))[0]  # type: ignore[arg-type]
    reached = {f for a, b in zip(lowest, highest, strict=True) for f in range(a, b + 1)}
    assert reached == set(range(n))


class _Extreme:
    """A generator that always draws the first, or always the last, value of a range."""

    def __init__(self, first: bool) -> None:
        self.first = first

    def integers(self, low: Any, high: Any, size: tuple[int, ...]) -> np.ndarray:
        return np.broadcast_to(low if self.first else high - 1, size)


def test_clips_of_training_are_independent_draws() -> None:
    indices = sample(300, 8, mode="train", clips=4, rng=np.random.default_rng(0))
    assert len({tuple(row) for row in indices.tolist()}) == 4


def test_without_a_generator_draws_differ() -> None:
    rows = {tuple(sample(300, 8, mode="train")[0].tolist()) for _ in range(5)}
    assert len(rows) > 1


@pytest.mark.parametrize(
    ("n", "t", "arguments", "words"),
    [
        (10, 8, {"strategy": "unifrom"}, "did you mean 'uniform'"),
        (10, 8, {"mode": "eval"}, "train, val or test"),
        (0, 8, {}, "num_frames is 0"),
        (10, 0, {}, "segments is 0"),
        (10, 8, {"clips": 0}, "clips is 0"),
        (10, 8, {"frames_per_segment": 0}, "frames_per_segment is 0"),
        (10, 8, {"strategy": "dense", "window": 0}, "window is 0"),
        (10, 8, {"window": 32}, "has no window"),
        (10, 8, {"strategy": "twice"}, "gives 2 clip"),
        (10, 8, {"strategy": "tsn", "clips": 2}, "gives 1 clip"),
        (10, 8, {"strategy": "mmaction2", "clips": 3}, "gives 1 or 2 clip"),
        (10, 8, {"strategy": "mmaction2", "frames_per_segment": 5}, "one frame per segment"),
    ],
)
def test_mistakes_are_named(n: int, t: int, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        sample(n, t, **{"mode": "test", **arguments})
    assert "\n" not in str(caught.value)


def test_every_strategy_is_in_a_table_and_says_what_it_is() -> None:
    assert {row[0] for row in FIXED} == set(list_strategies())
    assert all(STRATEGIES[name].doc and len(STRATEGIES[name].doc) < 100 for name in STRATEGIES)


# --- Refusals without a video.


def refusal(call: Callable[..., object], *args: object, **asked: Any) -> str:
    try:
        call(*args, **asked)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_check_refuses_what_sample_refuses(strategy: str) -> None:
    for mode in ("train", "val", "test"):
        for clips in (1, 2, 3, 10):
            for frames in (1, 5):
                asked = {"mode": mode, "clips": clips, "frames_per_segment": frames}
                said = refusal(check, strategy, **asked)
                assert refusal(sample, 30, 4, strategy=strategy, **asked) == said
                if not said:
                    assert sample(30, 4, strategy=strategy, **asked).shape == (clips, 4 * frames)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_has_a_validation(strategy: str) -> None:
    check(strategy, "val", clips_of_validation(strategy))
    assert clips_of_validation(strategy) == 1  # in all that are published


def test_the_refusal_says_what_to_ask_for() -> None:
    with pytest.raises(UserError, match=r"gives 2 clip\(s\) in test mode, not 1; use views 2x1 or"):
        check("twice", "test", 1)
    with pytest.raises(UserError, match="clips is 0"):
        check("uniform", "test", 0)
