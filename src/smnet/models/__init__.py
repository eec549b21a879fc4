"""Models: pure PyTorch, importing nothing else of the package.

The names are loaded on first use, so that ``ModelSpec`` can be had without importing torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import VideoModel, multiply_adds, parameter_count, to_channels_last
    from .fast import accelerate, set_fast
    from .imagenet import load_weights
    from .registry import build_model, create_model, list_models
    from .spec import ModelSpec

_HOME = {
    "ModelSpec": "spec",
    "VideoModel": "base",
    "multiply_adds": "base",
    "parameter_count": "base",
    "to_channels_last": "base",
    "accelerate": "fast",
    "set_fast": "fast",
    "load_weights": "imagenet",
    "build_model": "registry",
    "create_model": "registry",
    "list_models": "registry",
}

__all__ = [
    "ModelSpec",
    "VideoModel",
    "accelerate",
    "build_model",
    "create_model",
    "list_models",
    "load_weights",
    "multiply_adds",
    "parameter_count",
    "set_fast",
    "to_channels_last",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module 'smnet.models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
