"""docs/models.md is what tools/models_page.py writes."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_of_models_is_up_to_date() -> None:
    page = runpy.run_path(str(ROOT / "tools" / "models_page.py"))["page"]
    written = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert page() == written, "run: python tools/models_page.py docs/models.md"
