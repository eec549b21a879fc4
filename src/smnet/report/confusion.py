"""The confusion matrix as a picture."""

from __future__ import annotations

import os

import numpy as np

from smnet.evaluation.results import Evaluation
from smnet.report.plotting import check_picture, drawn_name, load_pyplot, save_picture


def draw_confusion(path: str | os.PathLike[str], result: Evaluation) -> None:
    """Draw the confusion matrix as ``.png``, ``.svg`` or ``.pdf``.

    Rows are the true classes, columns the predicted ones. The shade is the share of the row.
    """
    check_picture(path)
    pyplot = load_pyplot()
    matrix = result.confusion
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    count = len(result.classes)
    side = min(4 + 0.32 * count, 40)
    figure, axes = pyplot.subplots(figsize=(side + 1.2, side), layout="constrained")
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [drawn_name(name) for name in result.classes]
    axes.set_xticks(range(count), names, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(count), names, fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"top-1 {result.top(1)}, {len(result.labels)} clips, {result.views}")
    if count <= 30:
        for i, j in zip(*np.nonzero(matrix), strict=True):
            shade = "white" if shares[i, j] > 0.55 else "black"
            axes.text(j, i, str(matrix[i, j]), ha="center", va="center", color=shade, fontsize=7)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.7)
    save_picture(path, figure, dpi=130)
