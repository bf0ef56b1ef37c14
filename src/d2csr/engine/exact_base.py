"""The bicubic base exact in a graph of bfloat16: picture and kernel in parts of 8 bits each.

Rounded to bfloat16, a picture keeps no more than its 8 bits: base and SR were 54 dB from float32,
and up to 0.14 dB worse against the truth. The sum of high * high, low * high and high * low, in
one convolution, leaves out 2^-16 of the value.
"""

import numpy as np
from jaxtyping import Float32
from openvino import Input, Model, Node
from openvino import opset13 as operations

from d2csr.engine.precision import from_bits, to_bits

_PARTS = 3  # of every colour
_FAR = 1e4  # grey levels 0 to 255 are 0 to 1


def split_base(model: Model) -> Model:
    """Return a graph that takes its picture as `in_parts` gives it; one without a base as it is."""
    nodes = model.get_ordered_ops()
    bases = [each for each in nodes if each.get_type_name() == "GroupConvolution"]
    if not bases:
        return model
    (base,) = bases
    padding = base.input_value(0).get_node()
    picture = padding.input_value(0).get_node()
    shape = picture.get_output_partial_shape(0)
    shape[1] = _PARTS * shape[1].get_length()
    parts = operations.parameter(shape, np.float32, name=picture.get_friendly_name())
    parts.output(0).set_names(picture.output(0).get_names())
    pads = [padding.input_value(index) for index in (1, 2)]
    kernel = _constant(base.input_value(1).get_node())  # colour, phase, 1, 5, 5
    high = from_bits(to_bits(kernel))
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


def keep_sums_float32(model: Model) -> None:
    """Change a graph in place so that what is shuffled to pixels is not rounded to bfloat16 before.

    A convolution of bfloat16 sums in float32 and rounds the sum, but where an operation that
    OpenVINO computes in float32 is fused to it. A limit that no value comes near is one.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() == "DepthToSpace":
            summed = node.input_value(0).get_node()
            for place in _terms(summed) or [node.input(0)]:
                limit = operations.clamp(place.get_source_output(), -_FAR, _FAR)
                place.replace_source_output(limit.output(0))


def _terms(node: Node) -> list[Input]:
    """Return where the terms of a sum come in; none where one of them is a constant, a bias."""
    if node.get_type_name() != "Add":
        return []
    kinds = [value.get_node().get_type_name() for value in node.input_values()]
    return [] if {"Constant", "Reshape"} & set(kinds) else list(node.inputs())


def in_parts(picture: Float32[np.ndarray, "1 c h w"]) -> Float32[np.ndarray, "1 3*c h w"]:
    """Return of each colour what bfloat16 holds of it, what it leaves, and the first again."""
    high = from_bits(to_bits(picture))
    parts = np.stack([high, picture - high, high], axis=2)
    return parts.reshape(1, -1, *picture.shape[2:])


def _constant(node: Node) -> Float32[np.ndarray, "colour phase 1 5 5"]:
    """Return the values of a constant, which ONNX's reader may have put behind a reshape."""
    shape = node.get_output_shape(0)
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    return np.array(node.data, np.float32).reshape(tuple(shape))
