"""Models: pure PyTorch, importing nothing else of the package."""

from .base import ModelSpec, VideoModel, multiply_adds, parameter_count, to_channels_last
from .imagenet import load_weights
from .registry import build_model, create_model, list_models

__all__ = [
    "ModelSpec",
    "VideoModel",
    "build_model",
    "create_model",
    "list_models",
    "load_weights",
    "multiply_adds",
    "parameter_count",
    "to_channels_last",
]
