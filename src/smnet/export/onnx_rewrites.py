"""Rewrite an ONNX graph with operators that engines run in 8 bits and without reordering.

ReduceMean and Gather have no 8-bit form, and in OpenVINO none with channels last: the engine would
make a float copy of the features or reorder them. Convolution, pooling and slice have both forms. A
convolution of three channels reads three bytes at a time; on squares of 2 x 2 pixels as channels it
is twice as fast. The result is mathematically the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import helper, numpy_helper


def use_engine_forms(model: Any, turns: bool = True) -> None:
    """Rewrite an fp32 ``onnx.ModelProto`` in place.

    ``turns``: the engine removes pairs of transpositions, as ONNX Runtime does. A mean over
    channels then becomes a pooling, else a convolution; and squares of pixels become channels.
    """
    graph = model.graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}

    def change(node: Any) -> list[Any]:
        shape = shapes.get(node.input[0], []) if node.input else []
        if len(shape) != 4 or len(node.input) < 2 or node.input[1] not in constants:
            return [node]
        if node.op_type == "Conv" and turns:
            return convolution(node, *shape[2:])
        if len(node.input) != 2:
            return [node]
        which = constants[node.input[1]]
        if node.op_type == "ReduceMean" and _attribute(node, "keepdims", 1):
            axes = sorted(int(axis) % 4 for axis in which.reshape(-1))
            if axes == [2, 3]:
                return [helper.make_node("GlobalAveragePool", node.input[:1], node.output)]
            if axes == [1] and all(shape[1:]) and turns:
                return mean_over_channels(node, *shape[1:])
            if axes == [1] and shape[1]:
                kernel = np.full((1, shape[1], 1, 1), 1 / shape[1], np.float32)
                return [helper.make_node("Conv", [node.input[0], new(node, kernel)], node.output)]
        if node.op_type == "Gather" and which.ndim == 0:
            axis, index = _attribute(node, "axis", 0), int(which)
            end = index + 1 or np.iinfo(np.int64).max
            where = [new(node, np.array([n], np.int64)) for n in (index, end, axis)]
            row = f"{node.output[0]}_row"
            return [
                helper.make_node("Slice", [node.input[0], *where], [row]),
                helper.make_node("Squeeze", [row, where[2]], node.output),
            ]
        return [node]

    def mean_over_channels(node: Any, channels: int, height: int, width: int) -> list[Any]:
        # In 8 bits channels are last, so the channels of a pixel can be pooled like pixels.
        words = [f"{node.output[0]}_{word}" for word in ("innermost", "pixels", "means")]
        rows, back = ([0, height * width, channels, 1], [0, 1, height, width])
        turned = helper.make_node("Transpose", node.input[:1], words[:1], perm=[0, 2, 3, 1])
        return [
            turned,
            helper.make_node("Reshape", [words[0], new(node, np.array(rows))], words[1:2]),
            helper.make_node("GlobalAveragePool", words[1:2], words[2:]),
            helper.make_node("Reshape", [words[2], new(node, np.array(back))], node.output),
        ]

    def convolution(node: Any, height: int, width: int) -> list[Any]:
        kernel = constants[node.input[1]]  # (D, C, 2p + 1, 2p + 1)
        channels, pad = kernel.shape[1], kernel.shape[2] // 2
        plain = {"group": 1, "dilations": [1, 1], "strides": [1, 1], "pads": [0] * 4}
        given = plain | {a.name: helper.get_attribute_value(a) for a in node.attribute}
        halving = {"group": 1, "dilations": [1, 1], "strides": [2, 2], "pads": [pad] * 4}
        even = height > 0 and width > 0 and not height % 2 and not width % 2
        square = kernel.shape[2:] == (2 * pad + 1,) * 2 and pad % 2
        if not (even and square and channels <= 4 and halving.items() <= given.items()):
            return [node]
        # One row and column of zeros in front make the kernel a whole number of squares.
        kernel = np.pad(kernel, [(0, 0), (0, 0), (1, 0), (1, 0)])
        side = pad + 1
        kernel = kernel.reshape(len(kernel), channels, side, 2, side, 2)
        kernel = kernel.transpose(0, 3, 5, 1, 2, 4).reshape(-1, 4 * channels, side, side)
        squares = f"{node.output[0]}_squares"
        before, after = side // 2, side - 1 - side // 2
        inputs = [squares, new(node, np.ascontiguousarray(kernel)), *node.input[2:]]
        return [
            helper.make_node("SpaceToDepth", node.input[:1], [squares], blocksize=2),
            helper.make_node("Conv", inputs, node.output, pads=[before] * 2 + [after] * 2),
        ]

    def new(node: Any, values: Any) -> str:
        name = f"{node.output[0]}_constant_{len(graph.initializer)}"
        graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    _replace(graph, change)
    used = {name for node in graph.node for name in node.input}
    for number in reversed(range(len(graph.initializer))):
        if graph.initializer[number].name not in used:
            del graph.initializer[number]


def put_maxima_first(model: Any) -> None:
    """Move maxima before dequantisation, which is monotonic. In place, after quantisation."""
    graph = model.graph
    made_by = {name: node for node in graph.node for name in node.output}

    def change(node: Any) -> list[Any]:
        scaled = made_by.get(node.input[0]) if node.op_type == "ReduceMax" else None
        if scaled is None or scaled.op_type != "DequantizeLinear":
            return [node]
        codes = f"{node.output[0]}_codes"
        largest = helper.make_node("ReduceMax", [scaled.input[0], *node.input[1:]], [codes])
        largest.attribute.extend(node.attribute)
        return [
            largest,
            helper.make_node("DequantizeLinear", [codes, *scaled.input[1:]], node.output),
        ]

    _replace(graph, change)


def _replace(graph: Any, change: Callable[[Any], list[Any]]) -> None:
    """Replace each node by the result of ``change``, with its name and metadata."""
    nodes = []
    for node in graph.node:
        for number, made in enumerate(change(node)):
            if made is not node:
                made.name = node.name if not number else f"{node.name}/{number}"
                made.metadata_props.extend(node.metadata_props)
            nodes.append(made)
    del graph.node[:]
    graph.node.extend(nodes)


def _attribute(node: Any, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)
