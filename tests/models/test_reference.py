"""What the tests of the families share must notice mistakes itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from smnet.models import ModelSpec, VideoModel

from .reference import assert_order_counts, naive_norm, noise, scramble, small


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(4), nn.BatchNorm2d(4), nn.BatchNorm3d(4)])
def test_scrambled_norms_can_be_evaluated(norm: nn.Module) -> None:
    norm.double().eval()
    scramble(norm)
    x = noise(2, 4, 3, 5, 6)
    x = x[..., 0, 0] if isinstance(norm, nn.BatchNorm1d) else x
    x = x[..., 0] if isinstance(norm, nn.BatchNorm2d) else x
    assert torch.isfinite(norm(x)).all()
    torch.testing.assert_close(norm(x), naive_norm(x, norm))
    norm.train()
    torch.testing.assert_close(norm(x), naive_norm(x, norm))


def test_another_norm_is_named() -> None:
    with pytest.raises(AssertionError, match="a GroupNorm is no batch normalisation"):
        naive_norm(noise(2, 4, 3, 3), nn.GroupNorm(2, 4))


class Broken(VideoModel):
    def forward_features(self, clips: Tensor) -> Tensor:
        return clips * torch.nan


def test_scores_that_are_no_numbers_have_no_order() -> None:
    with pytest.raises(AssertionError, match="not finite"):
        assert_order_counts(Broken(ModelSpec("broken", 5, 4), 3).double().eval(), 4)


def test_order_counts_where_it_does() -> None:
    assert_order_counts(small("tsm_resnet18", 4), 4)
    with pytest.raises(AssertionError, match="backwards"):
        assert_order_counts(small("tsn_resnet18", 4), 4)
