"""One small model of every family, for what must hold of all of them."""

from __future__ import annotations

from smnet.models.registry import FAMILIES

ONE_OF_EACH = sorted(
    f"{name}_{'resnet18' if 'resnet18' in family.trunks else family.trunks[0]}"
    for name, family in FAMILIES.items()
)
