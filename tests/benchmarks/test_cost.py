"""A guard: the cost of SMNet beside TSN may not double unnoticed.

Ratios of CPU time in one run, the two models taking turns, with 1.9 times the measured ratio as
limit; see benchmarks/cost.py for the figures themselves.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from smnet.experiments.profile import saved_for_backward
from smnet.models import VideoModel, accelerate, create_model, to_channels_last

FRAMES, SIDE = 8, 64


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def build(name: str, place: str | None = None) -> VideoModel:
    options = {} if place is None else {"place": place}
    model = accelerate(create_model(name, 10, FRAMES, **options), "training")
    to_channels_last(model)
    return model


def forward(model: VideoModel, clips: Tensor) -> None:
    with torch.inference_mode():
        model.eval()(clips)


def train_step(model: VideoModel, clips: Tensor) -> None:
    scores = model.train()(clips)
    nn.functional.cross_entropy(scores, torch.zeros(len(clips), dtype=torch.long)).backward()
    model.zero_grad(set_to_none=True)


def ratio(model: VideoModel, base: VideoModel, do: Callable[[VideoModel, Tensor], None]) -> float:
    """CPU time of ``do`` with the model over that with the base; the median of paired rounds."""
    clips = torch.randn(1, FRAMES, 3, SIDE, SIDE)
    ratios = []
    for turn in range(4):
        seconds = []
        for each in (model, base):
            began = time.process_time()
            do(each, clips)
            seconds.append(time.process_time() - began)
        if turn:  # the first warms up
            ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios)


@pytest.mark.parametrize(
    ("place", "forward_limit", "train_limit"),
    [("before_conv1", 1.9 * 1.12, 1.9 * 1.29), ("after_conv1", 1.9 * 1.09, 1.9 * 1.16)],
)
def test_smnet_costs_about_what_an_image_network_costs(
    place: str, forward_limit: float, train_limit: float
) -> None:
    model, base = build("smnet_resnet50", place), build("tsn_resnet50")
    assert ratio(model, base, forward) < forward_limit
    assert ratio(model, base, train_step) < train_limit


@pytest.mark.parametrize("place", ["before_conv1", "after_conv1"])
def test_training_keeps_about_the_memory_of_an_image_network(place: str) -> None:
    kept = [
        saved_for_backward(model, SIDE, torch.device("cpu"))
        for model in (build("smnet_resnet50", place), build("tsn_resnet50"))
    ]
    assert kept[0] / kept[1] < 1.2
