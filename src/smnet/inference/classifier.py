"""The linear layer of a head, and the logits that it gives as sums over frames and places.

A head that pools features f (T', C, h, w) over space, applies a linear layer and takes the mean
over time makes the logit of class k a sum:

    logit_k = b_k + sum_{t,x,y} e_k[t,x,y],    e_k[t,x,y] = <w_k, f[t,:,x,y]> / (T' h w)

So the class activation map e_k (Zhou et al., CVPR 2016) is an exact decomposition of the logit. The
head ``motion`` has two further inputs, which are exact sums too. With p_t the mean over space,
m = mean_t p_t and s^2 = mean_t (p_t - m)^2:

    deviation   s = sum_{t,x,y} (p_t - m) (f[t,x,y] - m) / (s T' h w)
    motion      mean of |f[t+1,x,y] - f[t,x,y]|, one half of each for either frame

The head ``phases`` also has the means and the motions of the thirds of the clip.

Does not import PyTorch.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smnet.models.spec import phases

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Classifier:
    """The linear layer of a head that pools over space and takes the mean over time.

    Attributes:
        weight: (K, C), (K, 3C) for ``head="motion"``, or (K, 9C) for ``head="phases"``.
        bias: (K,).
    """

    weight: Array
    bias: Array


def decompose(features: Array, classifier: Classifier) -> tuple[Array, Array]:
    """Maps (K, T', h, w) and constants (K,) of features (T', C, h, w)."""
    times, channels, height, width = features.shape
    places = features.transpose(1, 0, 2, 3).astype(np.float64)  # (C, T', h, w)
    cells = times * height * width
    weight = classifier.weight.astype(np.float64)
    maps = np.tensordot(weight[:, :channels], places, 1)
    constant = classifier.bias.astype(np.float64)
    if weight.shape[1] >= 3 * channels:
        pooled = places.mean((2, 3))  # (C, T')
        mean = pooled.mean(1, keepdims=True)
        deviation = np.sqrt(np.square(pooled - mean).mean(1) + 1e-12)  # as in over_time
        centred = places - mean[..., None, None]
        shares = ((pooled - mean) / deviation[:, None])[..., None, None] * centred
        maps += np.tensordot(weight[:, channels : 2 * channels], shares, 1)
        constant = constant + weight[:, channels : 2 * channels] @ (1e-12 / deviation)
        means: list[tuple[int, int, int]] = []  # block of the weights, first frame and end
        steps = [(2, 0, times - 1)]
        if weight.shape[1] == 9 * channels:
            means += [(3 + k, *bounds) for k, bounds in enumerate(phases(times))]
            steps += [(6 + k, *bounds) for k, bounds in enumerate(phases(max(times - 1, 1)))]
        for block, start, end in means:
            part = weight[:, block * channels : (block + 1) * channels] * (times / (end - start))
            maps[:, start:end] += np.tensordot(part, places[:, start:end], 1)
        moved = np.abs(np.diff(places, axis=1))
        for block, start, end in steps if times > 1 else ():
            part = weight[:, block * channels : (block + 1) * channels]
            halves = np.tensordot(part, moved[:, start:end], 1) * (times / (end - start) / 2)
            maps[:, start:end] += halves
            maps[:, start + 1 : end + 1] += halves
    return (maps / cells).astype(np.float32), constant.astype(np.float32)


def features_metadata(shape: tuple[int, ...], classifier: Classifier) -> dict[str, str]:
    """The metadata of a file with features: their shape (T', C, h, w), and the linear layer."""
    layer = np.column_stack([classifier.weight, classifier.bias]).astype("<f4")
    return {
        "features": json.dumps(list(shape)),
        "classifier": base64.b64encode(layer.tobytes()).decode("ascii"),
    }


def read_features(metadata: Mapping[str, str], classes: int) -> tuple[list[int], Classifier | None]:
    """The inverse of :func:`features_metadata`; no shape for a file without features.

    Raises:
        ValueError: damaged metadata.
    """
    if "features" not in metadata:
        return [], None
    try:
        shape = [int(side) for side in json.loads(metadata["features"])]
        layer = np.frombuffer(base64.b64decode(metadata["classifier"]), "<f4")
        layer = layer.reshape(classes, -1)
        if len(shape) != 4 or layer.shape[1] not in [n * shape[1] + 1 for n in (1, 3, 9)]:
            raise ValueError(f"{layer.shape} weights for features {shape}")
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"features: {error}") from None
    return shape, Classifier(layer[:, :-1], layer[:, -1])
