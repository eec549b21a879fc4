"""The model card of a checkpoint: the text of its repository's page on the hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from smnet.checkpoints.header import Header


def model_card(header: Header, repo: str) -> str:
    """Markdown with a YAML front matter, from the checkpoint's header alone."""
    spec = header.spec
    family, _, trunk = spec.name.partition("_")
    head = "\n".join(
        [
            "---",
            "library_name: smnet",
            "pipeline_tag: video-classification",
            "tags:",
            *(f"- {tag}" for tag in ("action-recognition", "video", family, trunk)),
            "---",
        ]
    )
    rows = {
        "model": spec.name + (f" {dict(spec.options)}" if spec.options else ""),
        "classes": spec.num_classes,
        "segments": spec.num_segments,
        "frames per segment": spec.frames_per_segment,
        "sampling": spec.sampling,
        "input": f"{spec.input_size} px, from a short side of {spec.short_side} px",
    }
    parts = [head, f"# {_plain(repo)}", _table(rows)]
    parts += [
        "## Use",
        f"```\nsmnet predict hf://{repo} clip.mp4\n```",
        f'```python\nimport smnet\n\nsmnet.Recognizer.load("hf://{repo}").predict("clip.mp4")\n```',
    ]
    for title, values in (("Results", header.metrics), ("Recipe", header.recipe)):
        if values:
            parts += [f"## {title}", _table(values)]
    parts.append("## Classes")
    if spec.class_names is None:
        parts.append("The checkpoint has no class names, only numbers.")
    else:
        parts.append("\n".join(f"    {i} {_line(n)}" for i, n in enumerate(spec.class_names)))
    return "\n\n".join(parts) + "\n"


def _table(values: Mapping[str, Any]) -> str:
    rows = [f"| {_plain(str(k))} | {_plain(_value(v))} |" for k, v in values.items()]
    return "\n".join(["| | |", "|---|---|", *rows])


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _line(text: str) -> str:
    return " ".join(text.split())


def _plain(text: str) -> str:
    """One line of a table, with all markup escaped."""
    text = _line(text)
    for mark in "\\`*_[]|<>":
        text = text.replace(mark, f"\\{mark}" if mark not in "<>" else f"&{'lg'[mark == '>']}t;")
    return text
