"""The specification of a model: everything except its tensors.

Plain Python, because exported models are run without PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def phases(length: int) -> list[tuple[int, int]]:
    """First index and end of each third of a sequence; shorter ones share their elements."""
    starts = [min(part * length // 3, length - 1) for part in range(3)]
    return [(k, max((part + 1) * length // 3, k + 1)) for part, k in enumerate(starts)]


@dataclass(frozen=True)
class Decision:
    """How scores become an answer; calibrated on held-out clips.

    Attributes:
        temperature: by which the logits are divided.
        unknown_below: the best score below which the answer is "unknown"; 0 = never.
        thresholds: the score of each class from which it is answered, where a clip may have several
            labels; None is 0.5 for each.
        discriminants: directions in which the distance to the answered class is measured, see
            ``smnet.models.discriminants``; 0 = none.
        unknown_beyond: the distance above which the answer is "unknown". The best score decides
            where no distance is known.
    """

    temperature: float = 1.0
    unknown_below: float = 0.0
    thresholds: tuple[float, ...] | None = None
    discriminants: int = 0
    unknown_beyond: float = 0.0


@dataclass(frozen=True)
class ModelSpec:
    """Everything except the tensors that is needed to use a model as it was trained.

    Attributes:
        name: registry name, ``family_trunk``.
        num_classes: K, the length of the score vector.
        num_segments: T, the segments per clip in training. The layers take T from their input, so
            most families accept another T.
        options: options of the family and the trunk that differ from the defaults.
        frames_per_segment: L, consecutive frames per segment: 5 for TDN, 6 for RGB differences,
            else 1.
        sampling: name of the sampling rule (``smnet.data.sampling.rules``).
        input_size: side of the square crop, pixels.
        short_side: short side of the frames before the crop, pixels.
        clip_seconds: median length of the training clips; None if unknown.
        mean, std: normalisation of RGB in [0, 1].
        class_names: K names in the order of the scores, or None before training.
        rate: frames per second at which clips were sampled in training; None where they were
            sampled by segments of the whole clip.
        several: whether a clip may have several labels. Then each class has a probability of its
            own (sigmoid); otherwise they sum to 1 (softmax).
        decision: how scores become an answer.
    """

    name: str
    num_classes: int
    num_segments: int = 8
    options: Mapping[str, Any] = field(default_factory=dict)
    frames_per_segment: int = 1
    sampling: str = "uniform"
    input_size: int = 224
    short_side: int = 256
    clip_seconds: float | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    class_names: tuple[str, ...] | None = None
    rate: float | None = None
    several: bool = False
    decision: Decision = field(default_factory=Decision)

    def __post_init__(self) -> None:
        if self.num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, not {self.num_classes}")
        if self.num_segments < 1:
            raise ValueError(f"num_segments must be at least 1, not {self.num_segments}")
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise ValueError(
                f"{len(self.class_names)} class names were given for {self.num_classes} classes"
            )
        # JSON has no tuples, and a specification should equal its round trip.
        plain = {k: tuple(v) if isinstance(v, list) else v for k, v in self.options.items()}
        object.__setattr__(self, "options", plain)

    @property
    def causal(self) -> bool:
        """Whether no segment depends on a later one, so the model also runs step by step."""
        alone = self.name.partition("_")[0] == "tsn"
        each = self.options.get("head", "mean") == "mean"  # the scores are the mean over frames
        return each and (alone or self.options.get("causal") is True)

    @property
    def frames_per_clip(self) -> int:
        """Frames per clip: T * L."""
        return self.num_segments * self.frames_per_segment

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, ready for JSON."""
        return asdict(replace(self, options=dict(self.options)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelSpec:
        """The inverse of ``to_dict``; unknown or missing keys raise ``ValueError``."""
        unknown = set(values) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"unknown keys in a model specification: {', '.join(sorted(unknown))}")
        missing = {"name", "num_classes"} - set(values)
        if missing:
            raise ValueError(f"a model specification lacks {', '.join(sorted(missing))}")
        given = dict(values)
        for key in ("mean", "std", "class_names"):
            if given.get(key) is not None:
                given[key] = tuple(given[key])
        decision = given.get("decision")
        if isinstance(decision, Mapping):
            thresholds = decision.get("thresholds")
            tupled = None if thresholds is None else tuple(thresholds)
            given["decision"] = Decision(**{**decision, "thresholds": tupled})
        return cls(**given)
