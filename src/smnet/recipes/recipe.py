"""The typed configuration: one flat recipe, read from YAML and overridden by ``key=value``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from smnet.errors import UserError

OPERATIONS = 14
"""Operations that RandAugment draws from."""


class Expected(BaseModel):
    """The accuracy a recipe should reach, under which protocol, and who says so."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    top1: float | None = None
    top5: float | None = None
    views: str = "1x1"
    source: str


class Recipe(BaseModel):
    """Everything that decides a training run and the protocol it is judged by.

    Lengths are in epochs, sizes in pixels, fractions in [0, 1]. ``lr`` is the rate for ``lr_batch``
    clips a step; the run scales it to its real batch and says so.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )

    about: str = ""
    expected: Expected | None = None

    # model
    model: str = "smnet_resnet50"
    segments: int = Field(8, ge=1, le=256)
    options: dict[str, Any] = {}
    weights: str = "imagenet"
    dropout: float = Field(0.5, ge=0, lt=1)

    # data
    data: str | None = None
    format: str | None = None
    root: str | None = None
    labels: str | None = None
    first_label: int = Field(0, ge=0, le=1)
    fold: int = Field(1, ge=1, le=3)
    val_fraction: float = Field(0.2, gt=0, lt=1)
    split_seed: int = Field(0, ge=0, lt=2**32)
    on_error: Literal["raise", "skip"] = "raise"
    decoder: Literal["pyav", "torchcodec"] = "pyav"
    sampling: str = "uniform"
    size: int = Field(224, ge=16, le=1024)
    short_side: int | None = Field(None, ge=16, le=2048)
    crop: Literal["multiscale", "resized", "centre"] = "multiscale"
    flip: Literal["auto", "off"] = "auto"
    jitter: float = Field(0.0, ge=0, le=1)
    randaugment: str = ""
    erase: float = Field(0.0, ge=0, le=1)
    mixup: float = Field(0.0, ge=0)
    cutmix: float = Field(0.0, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)

    # optimisation
    epochs: int = Field(30, ge=1)
    batch: int = Field(8, ge=1)
    accumulate: int = Field(1, ge=1)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(0.01, gt=0)
    lr_batch: int = Field(64, ge=1)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    milestones: tuple[Annotated[float, Field(ge=0)], ...] = ()
    warmup: float = Field(1.0, ge=0)
    head_lr: float = Field(5.0, gt=0)
    temporal_lr: float = Field(1.0, gt=0)
    clip_grad: float = Field(20.0, ge=0)
    ema: float = Field(0.0, ge=0, lt=1)
    freeze_norm: bool = False

    # protocol of the result, which smnet evaluate takes unless told otherwise
    views: str = "1x1"

    # machine
    device: str = "auto"
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    channels_last: bool = True
    compile: bool = False
    workers: int | None = Field(None, ge=0, le=1024)
    seed: int = Field(0, ge=0, lt=2**32)
    deterministic: bool = False

    @model_validator(mode="before")
    @classmethod
    def _words_of_yaml(cls, values: dict[str, Any]) -> dict[str, Any]:
        """YAML reads off as False and nothing as None; and Python takes True for the number 1."""
        meant = dict(values)
        for key, value in values.items():
            field = cls.model_fields.get(key)
            if value is False and key in ("flip", "amp"):
                meant[key] = "off"
            elif value is None and key == "randaugment":
                meant[key] = ""
            elif isinstance(value, bool) and field is not None and field.annotation is not bool:
                raise ValueError(f"{key}={str(value).lower()}: true and false are no values of it")
        return meant

    @model_validator(mode="before")
    @classmethod
    def _one_epoch(cls, values: dict[str, Any]) -> dict[str, Any]:
        if values.get("epochs") == 1 and "warmup" not in values:  # the default takes a whole one
            return {**values, "warmup": 0.1}
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if self.schedule == "step" and not self.milestones:
            raise ValueError("schedule=step needs milestones, the epochs at which lr falls to 0.1")
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError("milestones must rise")
        if self.warmup >= self.epochs:
            raise ValueError(
                f"warmup={self.warmup:g} leaves nothing of epochs={self.epochs}; give more epochs,"
                f" or a shorter warmup such as warmup={self.epochs / 10:g}"
            )
        if self.short_side is not None and self.short_side < self.size:
            raise ValueError(f"short_side={self.short_side} is smaller than size={self.size}")
        parse_views(self.views)
        parse_randaugment(self.randaugment)
        return self

    @property
    def resize_to(self) -> int:
        """Short side before cropping; by default in the proportion 256 : 224 to ``size``."""
        return self.short_side or round(self.size * 256 / 224)


MAY_CHANGE = frozenset(
    (
        *("about", "expected", "views"),
        *("data", "format", "root", "labels", "on_error", "decoder"),
        *("device", "channels_last", "compile", "workers", "deterministic"),
    )
)
"""Keys that say where and how a run reads and computes, not what it learns; its clips are compared
by themselves."""


def other_values(then: Mapping[str, Any], now: Recipe) -> list[str]:
    """What decides the result of a run by ``now`` and was otherwise: ``lr: 0.01 then, 0.02 now``.

    Args:
        then: plain values of the earlier recipe; keys that it did not know are left out.
        now: the recipe of today.
    """
    values = now.model_dump(mode="json")
    return [
        f"{key}: {then[key]} then, {value} now"
        for key, value in values.items()
        if key not in MAY_CHANGE and key in then and then[key] != value
    ]


def parse_views(views: str) -> tuple[int, int]:
    """``"10x3"`` -> (10, 3): clips and crops a clip.

    Raises:
        UserError: not of that form, or a number of crops that is not 1, 3 or 5.
    """
    clips, _, crops = views.lower().partition("x")
    if not (clips.isdecimal() and crops.isdecimal() and 1 <= int(clips) <= 100):
        raise UserError(f"views={views!r}: write clips x crops, such as 1x1, 2x3 or 10x3")
    if int(crops) not in (1, 3, 5):
        raise UserError(f"views={views!r}: crops must be 1, 3 or 5")
    return int(clips), int(crops)


def parse_randaugment(policy: str) -> tuple[float, int] | None:
    """``"m7-n4"`` -> (7.0, 4): magnitude out of 10 and operations a clip; None for ``""``.

    Raises:
        UserError: not of that form, or a number that cannot be.
    """
    if not policy:
        return None
    found = re.fullmatch(r"m([0-9]+(?:\.[0-9]+)?)-n([0-9]+)", policy)
    if not found or not 0 < float(found[1]) < 10 or not 1 <= int(found[2]) <= OPERATIONS:
        raise UserError(
            f"randaugment={policy!r}: write a magnitude below 10 and a number of operations of 1 to"
            f" {OPERATIONS}, such as m7-n4, or nothing"
        )
    return float(found[1]), int(found[2])


def describe_expected(expected: Mapping[str, Any]) -> str:
    """What a recipe should reach, by which protocol and on whose word, in a line."""
    numbers = [f"{k} {100 * expected[k]:.1f} %" for k in ("top1", "top5") if expected.get(k)]
    found = f"expected {', '.join(numbers)}" if numbers else "expected"
    return f"{found} at views {expected.get('views', '1x1')}: {expected.get('source', 'unknown')}"


def list_recipes() -> dict[str, str]:
    """Names of the recipes that come with the package, with what each is for."""
    found = {}
    for entry in sorted(files("smnet.recipes").iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".yaml"):
            values = yaml.safe_load(entry.read_text(encoding="utf-8"))
            found[entry.name.removesuffix(".yaml")] = str(values.get("about", ""))
    return found


def read_recipe(
    source: str | None = None, words: Iterable[str] = (), given: Mapping[str, Any] | None = None
) -> Recipe:
    """A recipe by name or path, with overrides.

    Args:
        source: name of a recipe of the package, path of a YAML file; None or ``"default"`` for the
            defaults.
        words: ``key=value``, values in YAML's notation; ``options.place=after_conv1`` reaches into
            a table.
        given: further values, as they are.

    Raises:
        UserError: unknown recipe or key (with the nearest known one), or a value that cannot be.
    """
    values, where = _read(source)
    for key, value in [*map(key_and_value, words), *(given or {}).items()]:
        _place(values, key, value)
    for key in values:
        if key not in Recipe.model_fields:
            near = nearest(str(key), Recipe.model_fields)
            options = f" (options of the model are written options.{key})"
            raise UserError(f"{where}: unknown key {key!r}{near}{options}")
    try:
        return Recipe(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        was = f" (got {first['input']!r})" if key else ""
        message = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        message = message.partition(", unable to parse")[0]
        raise UserError(f"{where}: {key + ': ' if key else ''}{message}{was}") from None


class _Loader(yaml.SafeLoader):
    """YAML's own takes the last of several values of a key, without a word."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(problem=f"{twice[0]} is there twice")
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


def read_yaml(text: str) -> Any:
    """Plain values from YAML; ``yaml.YAMLError`` for what is none, or has a key twice."""
    try:
        return yaml.load(text, _Loader)
    except ValueError as error:  # of 2020-13-45, no date though written as one
        raise yaml.YAMLError(str(error)) from None


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, complete, in the order of its keys."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read(source: str | None) -> tuple[dict[str, Any], str]:
    if source in (None, "default"):
        return {}, "recipe"
    packaged = files("smnet.recipes") / f"{source}.yaml"
    path = Path(source)
    if "/" not in source and "\\" not in source and packaged.is_file():
        text, where = packaged.read_text(encoding="utf-8"), f"recipe {source}"
    elif path.is_file():
        try:
            text, where = path.read_text(encoding="utf-8"), str(path)
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read as a recipe ({error})") from None
    else:
        names = list_recipes()
        raise UserError(f"no recipe {source!r}, by name or path{nearest(source, names)}")
    try:
        values = read_yaml(text) or {}
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{where}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{where}: a recipe is a table of keys and values")
    return values, where


def key_and_value(word: str) -> tuple[str, Any]:
    """A key and its value, in YAML, from ``key=value``; ``UserError`` for another word."""
    key, equals, value = word.partition("=")
    if not equals or not key:
        raise UserError(f"{word!r}: write key=value, for instance epochs=20")
    try:
        return key.strip(), read_yaml(value)
    except yaml.YAMLError:
        raise UserError(f"{word!r}: the value is not YAML") from None


def _place(values: dict[str, Any], key: str, value: Any) -> None:
    head, _, rest = key.partition(".")
    if not rest:
        values[head] = value
        return
    table = values.setdefault(head, {})
    if not isinstance(table, dict):
        raise UserError(f"{key}: {head} is not a table")
    values[head] = table = dict(table)
    _place(table, rest, value)


def nearest(word: str, known: Iterable[str]) -> str:
    """The tail of an error message: the known word nearest to ``word``, or all there are."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
