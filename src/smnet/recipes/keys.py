"""The keys of a recipe: meaning, unit, range, choices and default of each."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from smnet.errors import UserError
from smnet.models.options import accepted
from smnet.recipes.views import parse_views

TRACKERS = ("tensorboard", "trackio", "wandb")
"""Experiment trackers that a run can write to."""

RANDAUGMENT_OPERATIONS = 14
"""Operations that RandAugment draws from."""

SECTIONS = {
    "model": "Model",
    "data": "Data",
    "sampling": "Input and augmentation",
    "epochs": "Optimisation",
    "views": "Protocol of the result",
    "device": "Machine",
}
"""Titles of the groups of keys, by their first key."""


_OFF = ("flip", "amp", "cache", "class_weights", "groups", "retrain")  # keys with a value "off"
_ON = ("retrain",)


class Expected(BaseModel):
    """The accuracy that a recipe should reach."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    top1: float | None = None
    """Top-1 accuracy, a fraction."""
    top5: float | None = None
    """Top-5 accuracy, a fraction."""
    views: str = "1x1"
    """The views of the protocol, clips x crops."""
    source: str
    """Where the number comes from."""


class Recipe(BaseModel):
    """Everything that decides a training run, and the protocol of its evaluation."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    about: str = ""
    """What the recipe is for."""
    expected: Expected | None = None
    """The accuracy it should reach: top1, top5, views and source."""

    model: str = "smnet_resnet50"
    """Name of the model, see `smnet models`."""
    segments: int = Field(8, ge=1, le=256)
    """Segments per clip."""
    options: dict[str, Any] = {}
    """Options of the model, see `smnet models NAME`."""
    weights: str = "imagenet"
    """Start of the model: imagenet, none, a file, a checkpoint, a name of `smnet weights`, or
    hf://OWNER/NAME."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Dropout probability before the classifier."""

    data: str | None = None
    """The data set: a folder, an annotation file, or a packed set."""
    format: str | None = None
    """Annotation format. null: recognised from the files."""
    root: str | None = None
    """Folder of the clips. null: the folder of the annotation."""
    labels: str | None = None
    """File with the class names."""
    first_label: int = Field(0, ge=0, le=1)
    """The number of the first class in lists of numbers."""
    target: str | None = None
    """Which labels are the classes: a tier of ELAN, an attribute of VIA, verb, noun or action."""
    fold: int = Field(1, ge=1, le=1000)
    """Official split of UCF101 and HMDB51, 1 to 3; or the one of folds to hold out."""
    folds: int = Field(0, ge=0, le=1000)
    """Folds of a cross-validation: those of the column fold, or drawn by class and group. 0: one
    split."""
    groups: Literal["auto", "off"] = "auto"
    """What a drawn split keeps together besides parts of one file and the column group. auto:
    identical files, and groups guessed from file names."""
    copies: tuple[tuple[str, ...], ...] | None = None
    """Clips that look alike and that a drawn split keeps together: sets of paths below the data
    set. null: train looks for them and writes them here."""
    background: Literal["auto", "off"] = "off"
    """auto: draw clips of the class none from the time of recordings that no part covers."""
    val_fraction: float = Field(0.2, ge=0, lt=1)
    """Fraction held out for validation, if the data set has no validation split. 0: none."""
    split_seed: int = Field(0, ge=0, lt=2**32)
    """Seed of that split."""
    on_error: Literal["raise", "skip"] = "raise"
    """Missing or damaged clips: stop, or train without them and report them."""
    decoder: Literal["pyav", "torchcodec"] = "pyav"
    """Library that decodes videos."""

    sampling: str = "uniform"
    """Rule that chooses the frames: uniform, dense, or a published preset."""
    rate: float | None = Field(None, ge=0.1, le=240)
    """Frames per second: clips are as many frames at this rate, from any part of the video, as live
    streams need it. null: the frames are chosen by sampling."""
    size: int = Field(224, ge=16, le=1024)
    """Side of the square crop, pixels."""
    short_side: int | None = Field(None, ge=16, le=2048)
    """Short side of the frames before the crop, pixels. null: size x 256/224."""
    crop: Literal["multiscale", "resized", "centre"] = "multiscale"
    """Crop of training: one of several scales and positions (TSN), of random area and aspect, or
    the centre."""
    scale_first: bool = False
    """Scale larger frames to short_side before the random crop of training."""
    flip: Literal["auto", "off"] = "auto"
    """Mirroring. auto: half of the clips, with labels that name sides swapped."""
    jitter: float = Field(0.0, ge=0, le=1)
    """Strength of the colour jitter."""
    randaugment: str = ""
    """RandAugment as mMAGNITUDE-nOPERATIONS, such as m7-n4. Empty: off."""
    erase: float = Field(0.0, ge=0, le=1)
    """Probability of random erasing."""
    mixup: float = Field(0.0, ge=0)
    """Alpha of mixup. 0: off."""
    cutmix: float = Field(0.0, ge=0)
    """Alpha of CutMix. 0: off."""
    warm: int = Field(0, ge=0, le=256)
    """Causal models: frames of another clip of the batch that go before each clip, at most. The
    loss sees the clip alone, from a state as streams have it. 0: a state of zeros."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Probability that is spread over all classes."""

    epochs: int = Field(30, ge=1)
    """Passes over the training clips."""
    minutes: float = Field(0.0, ge=0)
    """Time for the run. The speed of the first steps then decides epochs. 0: as epochs says."""
    retrain: Literal["off", "auto", "on"] = "off"
    """After a run of smnet train, train again on all clips, the drawn validation clips among them.
    auto: in a run by minutes whose time suffices for many epochs."""
    batch: int = Field(8, ge=1)
    """Clips per step and process."""
    accumulate: int = Field(1, ge=1)
    """Batches per step of the optimizer."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum, or AdamW."""
    lr: float = Field(0.01, gt=0)
    """Learning rate for lr_batch clips per step, scaled to the actual number."""
    lr_batch: int = Field(64, ge=1)
    """Clips per step that lr is given for."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of SGD."""
    weight_decay: float = Field(5e-4, ge=0)
    """Weight decay, except of biases and normalisations."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """Learning rate over time, after the warmup."""
    milestones: tuple[Annotated[float, Field(ge=0)], ...] = ()
    """Epochs at which schedule=step multiplies the learning rate by 0.1."""
    warmup: float = Field(1.0, ge=0)
    """Epochs in which the learning rate rises to its value."""
    head_lr: float = Field(5.0, gt=0)
    """Learning rate of the classifier, as a multiple of lr."""
    temporal_lr: float = Field(1.0, gt=0)
    """Learning rate of the temporal parts, as a multiple of lr."""
    clip_grad: float = Field(20.0, ge=0)
    """Largest norm of the gradient. 0: no limit."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay per step of the moving average of the weights, which is validated and saved. 0.98
    averages over about 50 steps. 0: off."""
    freeze: Literal["none", "stem", "res2", "res3", "res4", "trunk"] = "none"
    """What keeps its start weights and statistics. A stage: everything from the input up to it.
    trunk: the image network; the classifier and the temporal modules learn."""
    freeze_norm: bool = False
    """Keep the running statistics of BatchNorm."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Learning rate of a stage, as a multiple of that of the stage above it. The classifier is the
    top, the stem the bottom."""
    class_weights: Literal["off", "auto"] = "off"
    """auto: weight the loss of a clip by the inverse frequency of its class."""
    balance: Literal["clips", "classes"] = "clips"
    """What an epoch has equally often: every clip, or every class (by repeating clips)."""
    patience: int = Field(0, ge=0)
    """Epochs without a better validation top-1 after which the run ends. 0: never."""

    views: str = "1x1"
    """Views averaged per video in evaluation, clips x crops."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    """Mixed precision. auto: bf16 on a GPU that has it, else off."""
    channels_last: bool = True
    """Store images with the channels innermost."""
    compile: bool = False
    """Compile the model with torch.compile."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, about a third more time."""
    save_minutes: float = Field(10.0, ge=0)
    """Minutes between saves of the state within an epoch, from which a killed run is resumed. 0: at
    the end of each epoch alone."""
    track: str = "auto"
    """Trackers, separated by commas: tensorboard, trackio, wandb; or none. auto: TensorBoard if it
    is installed."""
    workers: int | None = Field(None, ge=0, le=1024)
    """Processes that read clips. null: one per core, at most 8. 0: none."""
    cache: Literal["off", "auto"] = "off"
    """auto: keep decoded clips in memory, up to a quarter of what is available."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of weights, order and augmentation."""
    deterministic: bool = False
    """Use reproducible kernels only, which are slower."""

    @model_validator(mode="before")
    @classmethod
    def _read_yaml_words(cls, values: dict[str, Any]) -> dict[str, Any]:
        """YAML reads ``off`` as False, ``on`` as True, and an empty value as None."""
        result = dict(values)
        for key, value in values.items():
            field = cls.model_fields.get(key)
            if value is False and key in _OFF:
                result[key] = "off"
            elif value is True and key in _ON:
                result[key] = "on"
            elif value is None and key == "randaugment":
                result[key] = ""
            elif isinstance(value, bool) and field is not None and field.annotation is not bool:
                allowed = accepted(field.annotation, field.metadata)
                raise ValueError(f"{key} must be {allowed}, not {str(value).lower()}")
        return result

    @model_validator(mode="before")
    @classmethod
    def _shorten_warmup(cls, values: dict[str, Any]) -> dict[str, Any]:
        if values.get("epochs") == 1 and "warmup" not in values:
            return {**values, "warmup": 0.1}
        return values

    @model_validator(mode="after")
    def _check_combinations(self) -> Recipe:
        if self.schedule == "step" and not self.milestones:
            raise ValueError("schedule=step needs milestones, the epochs at which lr falls to 0.1")
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError("milestones must rise")
        if self.warmup >= self.epochs:
            raise ValueError(
                f"warmup={self.warmup:g} takes all of epochs={self.epochs}; give more epochs, or a"
                f" shorter warmup such as warmup={self.epochs / 10:g}"
            )
        if self.folds == 1:
            raise ValueError("folds must be 0 or at least 2, not 1")
        if self.short_side is not None and self.short_side < self.size:
            raise ValueError(f"short_side={self.short_side} is smaller than size={self.size}")
        if self.freeze != "none" and self.weights == "none":
            raise ValueError(
                f"freeze={self.freeze} would keep random weights; give start weights (weights=), or"
                " freeze=none"
            )
        if self.class_weights == "auto" and self.balance == "classes":
            raise ValueError(
                "class_weights=auto and balance=classes both make up for rare classes; choose one"
            )
        parse_trackers(self.track)
        parse_views(self.views)
        parse_randaugment(self.randaugment)
        return self

    @property
    def resize_to(self) -> int:
        """Short side before cropping, pixels; by default in the proportion 256 : 224 to
        ``size``."""
        return self.short_side or round(self.size * 256 / 224)


def parse_trackers(track: str) -> tuple[str, ...]:
    """``"tensorboard,wandb"`` -> its names; () for ``"auto"`` and ``"none"``.

    Raises:
        UserError: an unknown tracker.
    """
    if track in ("auto", "none"):
        return ()
    names = tuple(dict.fromkeys(name.strip() for name in track.split(",")))
    for name in names:
        if name not in TRACKERS:
            raise UserError(
                f"track={track!r}: there is no tracker {name!r}; there are {', '.join(TRACKERS)},"
                " or auto, or none"
            )
    return names


def parse_randaugment(policy: str) -> tuple[float, int] | None:
    """``"m7-n4"`` -> (7.0, 4): magnitude out of 10, and operations per clip; None for ``""``.

    Raises:
        UserError: another form, or an impossible number.
    """
    if not policy:
        return None
    match = re.fullmatch(r"m([0-9]+(?:\.[0-9]+)?)-n([0-9]+)", policy)
    magnitude, operations = (float(match[1]), int(match[2])) if match else (0.0, 0)
    if not 0 < magnitude < 10 or not 1 <= operations <= RANDAUGMENT_OPERATIONS:
        raise UserError(
            f"randaugment={policy!r}: write a magnitude below 10 and 1 to {RANDAUGMENT_OPERATIONS}"
            " operations, such as m7-n4, or nothing"
        )
    return magnitude, operations
