"""Rewrites of graphs at load for OpenVINO: layouts that are exact or faster on a processor.

They are not written into the exported graphs because other libraries would run them slower.

- `split_bicubic_base`: the bicubic base from image and kernel in parts of 8 bits each. Rounded to
  bfloat16, an image keeps no more than its 8 bits: base and SR were 54 dB from float32, and up to
  0.14 dB worse against the truth. The sum of high * high, low * high and high * low, in one
  convolution, leaves out 2^-16 of the value.
- `pool_after_squeeze`: local pooling of the few squeezed channels, not of all. The mean over a
  window and the 1x1 convolution behind it are both linear, so they can be swapped: 1 map is
  averaged instead of 16, its columns taken as channels so that whole vectors are averaged. A block
  of 16 channels with a window of 41 px: 20.7 -> 14.1 ms, 9.7 ms of which are its two 3x3
  convolutions (384x384 px, one thread, bf16). Without the transposes it is slower than before.
- `average_rows_first`: the mean of a map as the mean of its row means, which can be computed window
  by window with the same result, bit for bit.
"""

import numpy as np
from jaxtyping import Float32
from openvino import Model, Node, Output, Type
from openvino import opset13 as operations

from d2csr.engine.backends.base import bf16_to_float32, float32_to_bf16

_PARTS = 3  # of every color


def split_bicubic_base(model: Model) -> Model:
    """Return a graph whose image comes from `split_bf16`; one without a base stays as it is."""
    nodes = model.get_ordered_ops()
    bases = [each for each in nodes if each.get_type_name() == "GroupConvolution"]
    if not bases:
        return model
    (base,) = bases
    padding = base.input_value(0).get_node()
    image = padding.input_value(0).get_node()
    shape = image.get_output_partial_shape(0)
    shape[1] = _PARTS * shape[1].get_length()
    parts = operations.parameter(shape, np.float32, name=image.get_friendly_name())
    parts.output(0).set_names(image.output(0).get_names())
    pads = [padding.input_value(index) for index in (1, 2)]
    kernel = _constant(base.input_value(1).get_node())  # color, phase, 1, 5, 5
    high = bf16_to_float32(float32_to_bf16(kernel))
    exact = operations.group_convolution(
        operations.pad(parts, *pads, padding.get_attributes()["pad_mode"]),
        operations.constant(np.concatenate([high, high, kernel - high], axis=2)),
        *(
            base.get_attributes()[name]
            for name in ("strides", "pads_begin", "pads_end", "dilations")
        ),
    )
    for reader in list(base.output(0).get_target_inputs()):
        reader.replace_source_output(exact.output(0))
    names = [each.get_friendly_name() for each in model.get_parameters()]
    named = dict(zip(names, model.get_parameters(), strict=True))
    named[parts.get_friendly_name()] = parts
    results = [each.input_value(0) for each in model.get_results()]
    inputs = list(named.values())
    return Model(results, inputs, "split")  # pyright: ignore[reportGeneralTypeIssues] # stubs


def split_bf16(image: Float32[np.ndarray, "1 c h w"]) -> Float32[np.ndarray, "1 3*c h w"]:
    """Return three parts of each color: its bfloat16 value, the rest, and its bfloat16 value."""
    high = bf16_to_float32(float32_to_bf16(image))
    parts = np.stack([high, image - high, high], axis=2)
    return parts.reshape(1, -1, *image.shape[2:])


def _constant(node: Node) -> Float32[np.ndarray, "color phase 1 5 5"]:
    """Return the values of a constant, which OpenVINO's ONNX reader may reshape."""
    shape = node.get_output_shape(0)
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    return np.array(node.data, np.float32).reshape(tuple(shape))


_COLUMNS_AS_CHANNELS = (0, 3, 2, 1)
_ROWS_AS_CHANNELS = (0, 2, 1, 3)  # from there
_BACK = (0, 3, 1, 2)


def pool_after_squeeze(model: Model) -> None:
    """Change a graph in place; its results stay the same except for rounding."""
    for node in model.get_ordered_ops():
        if node.get_type_name() == "AvgPool" and node.get_attributes()["kernel"][1] == 1:
            _swap_with_squeeze(node)


def _swap_with_squeeze(rows: Node) -> None:
    """Move the mean over rows and columns behind the convolution that follows it."""
    columns = _only_reader(rows)
    convolution = None if columns is None else _only_reader(columns)
    if convolution is None or columns is None or not _squeezes(convolution):
        return
    readers = list(convolution.output(0).get_target_inputs())
    convolution.input(0).replace_source_output(rows.input_value(0))
    attributes = columns.get_attributes()
    window, pad = attributes["kernel"][1], attributes["pads_end"][1]
    means = _box_mean(
        _transpose(convolution.output(0), _COLUMNS_AS_CHANNELS), window=window, pad=pad
    )
    means = _box_mean(_transpose(means, _ROWS_AS_CHANNELS), window=window, pad=pad)
    for reader in readers:
        reader.replace_source_output(_transpose(means, _BACK))


def average_rows_first(model: Model) -> None:
    """Change a graph in place: every mean of a map becomes the mean of the means of its rows.

    The second mean is one of two dimensions, or OpenVINO would join both again.
    """
    for node in model.get_ordered_ops():
        if not _averages_image(node):
            continue
        readers = list(node.output(0).get_target_inputs())
        rows = operations.reduce_mean(node.input_value(0), operations.constant([3]), keep_dims=True)
        flat = operations.squeeze(rows, operations.constant([0, 3]))  # c, h
        means = operations.reduce_mean(flat, operations.constant([1]), keep_dims=False)
        shaped = operations.reshape(means, operations.constant([1, -1, 1, 1]), special_zero=False)
        for reader in readers:
            reader.replace_source_output(shaped.output(0))


def _averages_image(node: Node) -> bool:
    """Return whether a node averages a map over rows and columns."""
    if node.get_type_name() != "ReduceMean":
        return False
    shape = node.get_output_partial_shape(0)
    return len(shape) == len(_BACK) and shape[2].is_static


def _squeezes(node: Node) -> bool:
    """Return whether a node is a 1x1 convolution to fewer channels."""
    if node.get_type_name() != "Convolution":
        return False
    outputs, inputs, *taps = node.input_value(1).get_shape()
    return outputs < inputs and taps == [1, 1]


def _only_reader(node: Node) -> Node | None:
    """Return the only node that reads a node's output; None if there are several."""
    readers = list(node.output(0).get_target_inputs())
    return readers[0].get_node() if len(readers) == 1 else None


def _transpose(values: Output, order: tuple[int, ...]) -> Output:
    return operations.transpose(values, operations.constant(list(order), Type.i64)).output(0)


def _box_mean(values: Output, *, window: int, pad: int) -> Output:
    """Return the mean over a window of the second-last axis; padding doesn't count."""
    pads, kernel = [pad, 0], [window, 1]
    mean = operations.avg_pool(values, [1, 1], pads, pads, kernel, True, "floor", "explicit")
    return mean.output(0)
