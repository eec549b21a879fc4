"""SMNet: action recognition in video at the cost of an image network.

The public names are loaded on first use, so that ``import smnet`` (and ``smnet --help``) does not
pay for importing torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smnet.checkpoints.file import load
    from smnet.inference.recognizer import Prediction, Recognizer
    from smnet.models import ModelSpec, accelerate, create_model, list_models, set_fast

__version__ = "0.1.0"

_HOME = {
    "accelerate": "smnet.models",
    "create_model": "smnet.models",
    "list_models": "smnet.models",
    "ModelSpec": "smnet.models",
    "set_fast": "smnet.models",
    "load": "smnet.checkpoints.file",
    "Recognizer": "smnet.inference.recognizer",
    "Prediction": "smnet.inference.recognizer",
}

__all__ = [
    "ModelSpec",
    "Prediction",
    "Recognizer",
    "accelerate",
    "create_model",
    "list_models",
    "load",
    "set_fast",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'smnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
