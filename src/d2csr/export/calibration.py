"""What graphs are given while NNCF looks at their values: crops of LR, and what comes of them."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float32, UInt8
from openvino import Model

from d2csr.core.bundle import Bundle
from d2csr.engine.backend import Planes
from d2csr.engine.backend_openvino import compile_role
from d2csr.engine.exact_base import in_parts

PICTURES = 24  # 60 change nothing: benchmarks/int8.py
_CROP_PX = 128  # three times the window of local pooling

Inputs = Mapping[str, Planes]
Crop = Float32[np.ndarray, "_ _ 3"]


def calibration_crops(
    pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]], *, count: int = PICTURES
) -> Iterator[Crop]:
    """Yield a crop of every so-manieth picture, at places that are the same each time."""
    generator = np.random.default_rng(0)
    for picture in pictures[:: max(1, len(pictures) // count)][:count]:
        top, left = (
            int(generator.integers(0, max(1, side - _CROP_PX))) for side in picture.shape[:2]
        )
        crop = picture[top : top + _CROP_PX, left : left + _CROP_PX]
        yield crop.astype(np.float32) / np.float32(255)


def role_inputs(
    bundle: Bundle, role: str, *, model: Model, crops: Sequence[Crop]
) -> Iterator[Inputs]:
    """Yield what a role's graph is given for each crop, by input, as float32 has it.

    Args:
        bundle: has the graphs in float32.
        role: of its card.
        model: the role's graph, in whichever form.
        crops: LR.
    """
    names = [port.get_any_name() for port in model.inputs]
    graphs = {
        each: compile_role(bundle, each, device="CPU", precision="fp32")
        for each in {"trunk": (), "tail": ("trunk",)}.get(role, ("trunk", "tail"))
    }
    for crop in crops:
        lr = np.ascontiguousarray(crop.transpose(2, 0, 1)[None])
        values: dict[str, Planes] = {"lr": lr}
        if "trunk" in graphs:
            (values["features"],) = graphs["trunk"]([lr])
        if "tail" in graphs:
            values["predictions"] = graphs["tail"]([values["features"], lr])[0]
        if role != "trunk" and _has_parts(model):
            values["lr"] = in_parts(lr)
        yield {name: values[name] for name in names}


def _has_parts(model: Model) -> bool:
    shapes = {port.get_any_name(): port.get_partial_shape() for port in model.inputs}
    return "lr" in shapes and shapes["lr"][1].get_length() != 3
