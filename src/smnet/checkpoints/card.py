"""The model card of a checkpoint: the text of its repository's page on the hub."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smnet.checkpoints.header import Header

ONNX = "onnx/model.onnx"
"""Where a repository has the exported network, as by transformers.js."""
TASK = "video-classification"
METRICS = (
    ("top1", "accuracy", "top-1"),
    ("top5", "accuracy", "top-5"),
    ("map", "mean_average_precision", "mAP"),
)
"""Keys of a checkpoint's metrics, and their type and name in the model index of the hub."""


def model_card(header: Header, repo: str, onnx: bool = False) -> str:
    """Markdown with a YAML front matter, from the checkpoint's header alone.

    Args:
        header: of the checkpoint.
        repo: ``owner/name``.
        onnx: whether the repository also has the network as :data:`ONNX`.
    """
    spec = header.spec
    head = f"---\n{_front_matter(header, repo)}---"
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
    if onnx:
        parts.append(
            f"`{ONNX}` runs without PyTorch: download it, and\n\n"
            "```\nsmnet predict model.onnx clip.mp4\n```"
        )
    for title, values in (("Results", header.metrics), ("Recipe", header.recipe)):
        if values:
            parts += [f"## {title}", _table(values)]
    parts.append("## Classes")
    if spec.class_names is None:
        parts.append("The checkpoint has no class names, only numbers.")
    else:
        parts.append("\n".join(f"    {i} {_line(n)}" for i, n in enumerate(spec.class_names)))
    return "\n\n".join(parts) + "\n"


def space_card(header: Header, repo: str) -> str:
    """The card of a static space with a page of ``smnet export --to web``.

    Its headers allow the page several threads.
    """
    from huggingface_hub import SpaceCardData

    name = repo.partition("/")[2]
    data = SpaceCardData(
        title=name,
        sdk="static",
        app_file="index.html",
        tags=["video-classification", *_tags(header)],
        custom_headers={
            "cross-origin-embedder-policy": "require-corp",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "cross-origin",
        },
    )
    return (
        f"---\n{data.to_yaml()}\n---\n\n# {_plain(name)}\n\nRecognises actions in videos and before"
        " the camera, in the browser alone: nothing is uploaded.\n\nMade with"
        f" `smnet push CHECKPOINT {repo} --web`.\n"
    )


def _tags(header: Header) -> list[str]:
    family, _, trunk = header.spec.name.partition("_")
    return ["action-recognition", "video", family, trunk]


def _front_matter(header: Header, repo: str) -> str:
    """What the hub reads: library, task, and the results as its model index."""
    from huggingface_hub import EvalResult, ModelCardData

    data = Path(str(header.recipe.get("data") or "unnamed"))
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type=re.sub(r"[^a-z0-9]+", "-", data.name.lower()).strip("-") or "unnamed",
            dataset_name=_line(data.name),
            dataset_split="val",
            metric_type=kind,
            metric_name=name,
            metric_value=round(float(header.metrics[key]), 6),
        )
        for key, kind, name in METRICS
        if isinstance(header.metrics.get(key), int | float)
    ]
    made = ModelCardData(
        library_name="smnet",
        pipeline_tag=TASK,
        tags=_tags(header),
        model_name=repo.partition("/")[2] or repo,
        eval_results=results or None,
    )
    return f"{made.to_yaml()}\n"


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
