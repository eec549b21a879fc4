"""Write the folder of static files: page, network, description, engine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from smnet import __version__
from smnet.checkpoints.header import checkpoint_file, is_path, read_header
from smnet.checkpoints.metadata import view_plan
from smnet.console import json_text
from smnet.data.annotations.source import Source
from smnet.errors import UserError
from smnet.export.export import Exported, export
from smnet.files import WRITTEN_BY, atomic_path, check_outputs, temporary_folder
from smnet.inference.streams import OnnxStream
from smnet.live.watch import rate_of
from smnet.models.spec import ModelSpec
from smnet.report.app import app_script, app_style
from smnet.web.runtime import FOLDER, VERSION, runtime_files

FORMAT = "smnet-web/1"
NETWORK, DESCRIPTION = "model.onnx", "model.json"
SCRIPTS = ("camera", "containers", "network", "page", "pixels", "sampling", "video", "worker")
RULES = ("uniform", "dense", "tsn", "tsm-dense", "tam-uniform", "tam-dense", "tdn", "mmaction2")
"""Sampling rules of ``page/sampling.js``: those that are defined for one clip, without chance."""


@dataclass(frozen=True)
class Site:
    """A written folder.

    Attributes:
        folder: the folder.
        bytes: of all its files.
        exported: the network, compared with its checkpoint.
    """

    folder: Path
    bytes: int
    exported: Exported


def write_site(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    calibration: Source | None = None,
    opset: int | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Site:
    """Write a page that recognises videos and a camera in the browser, without a server.

    A causal network is exported as a step, and goes frame by frame. Any other takes whole clips.

    Args:
        checkpoint: see ``smnet.checkpoints.file.read_checkpoint``.
        out: the folder; None is ``STEM-web`` beside the checkpoint.
        calibration, opset: see :func:`smnet.export.export.export`.
        overwrite: replace existing files that smnet did not write.
        say: receives lines of progress.

    Raises:
        UserError: as of :func:`smnet.export.export.export`; a sampling rule that the page does not
            have; onnxruntime-web cannot be fetched.
    """
    if out is None and not is_path(checkpoint):
        raise UserError(f"{checkpoint}: is not a file here; give the folder to write with --out")
    source = checkpoint_file(checkpoint)
    folder = Path(out) if out is not None else source.with_name(f"{source.stem}-web")
    spec = read_header(checkpoint).spec
    check_sampling(spec)
    texts = _texts()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}: --to web writes a folder, and this is a file")
    for name in (*texts, NETWORK, DESCRIPTION):
        check_outputs({"--out": folder / name}, (source,), overwrite)
    runtime = {f"{FOLDER}/{name}": content for name, content in runtime_files().items()}
    with temporary_folder() as temporary:
        made = temporary / NETWORK
        stream = spec.causal and spec.frames_per_segment == 1
        exported = export(
            checkpoint, made, calibration=calibration, opset=opset, stream=stream, say=say
        )
        network = made.read_bytes()
        state = {k: list(v) for k, v in OnnxStream(made, "cpu").states.items()} if stream else None
    about = json_text(description(spec, network, state), indent=2) + "\n"
    content = {**runtime, NETWORK: network, DESCRIPTION: about.encode(), **texts}
    for name, data in content.items():
        with atomic_path(folder / name) as path:
            path.write_bytes(data)
    return Site(folder, sum(map(len, content.values())), exported)


def check_sampling(spec: ModelSpec) -> None:
    """Refuse a network whose sampling the page cannot do.

    Raises:
        UserError: with the rules that it has.
    """
    if spec.rate is None:
        view_plan(spec)
        if spec.sampling not in RULES:
            raise UserError(
                f"--to web: frames are sampled by {', '.join(RULES)} or at a fixed rate, and this"
                f" checkpoint samples by {spec.sampling!r}"
            )


def description(
    spec: ModelSpec, network: bytes, state: dict[str, list[int]] | None
) -> dict[str, Any]:
    """What the page must know of a network, in ``model.json``."""
    return {
        "file": NETWORK,
        "bytes": len(network),
        "sha256": hashlib.sha256(network).hexdigest(),
        "format": FORMAT,
        "smnet": __version__,
        "engine": f"onnxruntime-web {VERSION}",
        "model": spec.name,
        "classes": list(spec.class_names or map(str, range(spec.num_classes))),
        "several": spec.several,
        "temperature": spec.decision.temperature,
        "unknownBelow": 0.0 if spec.several else spec.decision.unknown_below,
        "segments": spec.num_segments,
        "length": spec.frames_per_segment,
        "sampling": spec.sampling,
        "rate": spec.rate,
        "cameraRate": rate_of(spec)[0],
        "size": spec.input_size,
        "shortSide": spec.short_side,
        "state": state,
    }


def _texts() -> dict[str, bytes]:
    """The page: its files by name. Scripts and style say who wrote them."""
    folder = package_files("smnet.web") / "page"
    texts = {f"{name}.js": (folder / f"{name}.js").read_text("utf-8") for name in SCRIPTS}
    texts["worker.js"] = texts["worker.js"].replace("./onnxruntime/", f"./{FOLDER}/")
    texts["app.js"], texts["style.css"] = app_script(), app_style()
    marked = {name: f"/* {WRITTEN_BY} {__version__} */\n{text}" for name, text in texts.items()}
    marked["index.html"] = (folder / "index.html").read_text("utf-8")
    return {name: text.encode() for name, text in marked.items()}
