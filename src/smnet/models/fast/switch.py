"""Whether fast code may be used."""

from __future__ import annotations

import os

_enabled = os.environ.get("SMNET_FAST", "1").lower() not in ("0", "false", "off")


def enabled() -> bool:
    """Whether models may run faster code than their plain modules."""
    return _enabled


def set_fast(enabled: bool) -> None:
    """Allow or forbid fast code, in models that are built already as well.

    The environment variable ``SMNET_FAST=0`` forbids it from the start.
    """
    global _enabled
    _enabled = bool(enabled)
