"""A bundle's graphs in int8: quantised by NNCF on real images, the sensitive parts left in bf16.

Left out are the bicubic base and the sums behind it, which are what SR's 8 bits are made of, the
gates' last convolution, whose one channel would only be copied about, and the fusion. Where that
costs a model more than `COST_LIMIT_DB` on pairs it has never seen, nothing is written.

What graphs are given while NNCF looks at their values: crops of LR, and what comes of them.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import openvino
from jaxtyping import Float32, UInt8
from openvino import Model, Node
from openvino.passes import ConstantFolding, Manager

from d2csr.core.bundle import Bundle, ModelCard
from d2csr.core.errors import BundleError, UsageError
from d2csr.core.files import sha256_file
from d2csr.core.manifest import Manifest, Pair
from d2csr.data.pairs import load_pair
from d2csr.engine import open_engine
from d2csr.engine.backends.base import NchwArray, Precision, graph_role
from d2csr.engine.backends.openvino import READY, compile_graph, optimize_graph, precisions
from d2csr.engine.backends.openvino_rewrites import split_bf16
from d2csr.metrics.protocols import score

IMAGES = 24  # 60 change nothing: benchmarks/int8.py
_CROP_PX = 128  # three times the window of local pooling

Inputs = Mapping[str, NchwArray]
Crop = Float32[np.ndarray, "_ _ 3"]


def calibration_crops(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]], *, count: int = IMAGES
) -> Iterator[Crop]:
    """Yield a crop of every so-manieth image, at places that are the same each time."""
    generator = np.random.default_rng(0)
    for image in images[:: max(1, len(images) // count)][:count]:
        top, left = (
            int(generator.integers(0, max(1, side - _CROP_PX))) for side in image.shape[:2]
        )
        crop = image[top : top + _CROP_PX, left : left + _CROP_PX]
        yield crop.astype(np.float32) / np.float32(255)


def calibration_inputs(
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
        each: compile_graph(bundle, each, device="CPU", precision="fp32")
        for each in {"trunk": (), "tail": ("trunk",)}.get(role, ("trunk", "tail"))
    }
    for crop in crops:
        lr = np.ascontiguousarray(crop.transpose(2, 0, 1)[None])
        values: dict[str, NchwArray] = {"lr": lr}
        if "trunk" in graphs:
            (values["features"],) = graphs["trunk"]([lr])
        if "tail" in graphs:
            values["predictions"] = graphs["tail"]([values["features"], lr])[0]
        if role != "trunk" and _has_parts(model):
            values["lr"] = split_bf16(lr)
        yield {name: values[name] for name in names}


def _has_parts(model: Model) -> bool:
    shapes = {port.get_any_name(): port.get_partial_shape() for port in model.inputs}
    return "lr" in shapes and shapes["lr"][1].get_length() != 3


COST_LIMIT_DB = 0.05
_PROTOCOL = "y"
_AS_THEY_ARE = ("border_tail",)  # runs on strips of four pixels: nothing to gain
_EXACT_TYPES = (
    *("GroupConvolution", "Pad", "Clamp", "Softmax", "ReduceSum"),
    *("ReduceMean", "AvgPool", "Transpose"),
)

NO_OPTIONS: Mapping[str, Any] = {}


def check_quantizable(pairs: Manifest) -> None:
    """Check what can be checked before a graph is made.

    Raises:
        UsageError: NNCF isn't installed, this processor has no fast int8, or the pairs have no
            train or no val split.
    """
    if find_spec("nncf") is None:
        remedy = "Run `pip install 'd2csr[quantize]'`."
        raise UsageError("int8", "needs nncf, which isn't installed", remedy=remedy)
    if "int8" not in precisions("CPU"):
        remedy = "Export on a processor with AVX-512 BF16 or AMX."
        raise UsageError("int8", "this processor has no int8 beside bf16", remedy=remedy)
    for split in ("train", "val"):
        if not pairs.of_split(split).pairs:
            remedy = "Give pairs with a train split to calibrate on and a val split to measure on."
            raise UsageError("int8", f"the pairs have no {split} split", remedy=remedy)


def add_int8(bundle: Bundle, *, pairs: Manifest) -> ModelCard:
    """Write int8 graphs into a bundle's folder; return the card that names them.

    Args:
        bundle: its card has the graphs in float32.
        pairs: the train split calibrates, the val split measures.
    """
    scale = bundle.card.scale
    crops = list(calibration_crops([load_pair(p, scale=scale)[0] for p in _train(pairs)]))
    graphs, files = dict(bundle.card.graphs), dict(bundle.card.files)
    for role, name in bundle.card.graphs.items():
        int8_role = graph_role(role, "int8")
        if role in _AS_THEY_ARE:
            graphs[int8_role] = name
            continue
        path = save_quantized(quantize_graph(bundle, role, crops=crops), bundle.folder, role=role)
        graphs[int8_role] = path.name
        files |= {each.name: sha256_file(each) for each in (path, path.with_suffix(".bin"))}
    return replace(bundle.card, graphs=graphs, files=files)


def int8_psnr_loss_db(bundle: Bundle, *, pairs: Manifest) -> float:
    """Return how much lower the PSNR of the val split is in int8 than in float32.

    Raises:
        BundleError: by more than `COST_LIMIT_DB`.
    """
    found: dict[Precision, float] = {
        precision: psnr_db(bundle, precision, pairs=pairs.of_split("val"))
        for precision in ("fp32", "int8")
    }
    cost_db = found["fp32"] - found["int8"]
    if not cost_db <= COST_LIMIT_DB:  # NaN is not
        problem = f"int8 costs {cost_db:.3f} dB on the val split, over {COST_LIMIT_DB} dB"
        raise BundleError(bundle.card.name, problem, remedy="Export it without `--int8`.")
    return round(cost_db, 4)


def psnr_db(bundle: Bundle, precision: Precision, *, pairs: Manifest) -> float:
    """Return the mean PSNR of SR in a precision, in dB by protocol `y`."""
    engine, scale = open_engine(bundle, backend="openvino", precision=precision), bundle.card.scale
    psnrs: list[float] = []
    for pair in pairs.pairs:
        lr, hr = load_pair(pair, scale=scale)
        sr = engine.run(lr.astype(np.float32) / np.float32(255)).sr
        psnrs.append(score(sr, hr, protocol=_PROTOCOL, scale=scale).psnr_db)
    return float(np.mean(psnrs))


def quantize_graph(
    bundle: Bundle,
    role: str,
    *,
    crops: Sequence[Crop],
    exact: Sequence[str] = (),
    options: Mapping[str, Any] = NO_OPTIONS,
) -> Model:
    """Return a role's graph in the form that the engine runs, its convolutions in int8.

    Args:
        bundle: has the graph in float32.
        role: one of its card.
        crops: LR to calibrate on.
        exact: operations to leave in bfloat16 besides `ignored_ops`, by name.
        options: for `nncf.quantize`, instead of its defaults.
    """
    nncf = import_nncf()

    model = float_graph(bundle, role)
    fed = [dict(each) for each in calibration_inputs(bundle, role, model=model, crops=crops)]
    ignored = nncf.IgnoredScope(names=[*ignored_ops(model, role=role), *exact])
    settings = {"subset_size": len(fed), "ignored_scope": ignored}
    return nncf.quantize(model, nncf.Dataset(fed), **(settings | dict(options)))


def save_quantized(model: Model, folder: Path, *, role: str) -> Path:
    """Write a graph as two files that the engine takes for the role in int8; return the first."""
    path = folder / f"{graph_role(role, 'int8')}.xml"
    model.set_rt_info("1", READY)
    openvino.save_model(model, path, compress_to_fp16=False)
    return path


def float_graph(bundle: Bundle, role: str) -> Model:
    """Return a role's graph in the form that the engine runs in bfloat16, biases as constants."""
    model = openvino.Core().read_model(bundle.graph(role))
    folding = Manager()
    folding.register_pass(ConstantFolding())
    folding.run_passes(model)
    return optimize_graph(model)


def ignored_ops(model: Model, *, role: str) -> list[str]:
    """Return the names of the operations to leave as they are."""
    nodes = model.get_ordered_ops()
    return [node.get_friendly_name() for node in nodes if _is_exact(node, role=role)]


def import_nncf() -> ModuleType:
    """Return NNCF, kept from reporting its use to its makers and every operation to the user."""
    os.environ.setdefault("NNCF_CI", "1")  # read when it is imported, which takes seconds
    nncf = import_module("nncf")
    nncf.set_log_level(logging.ERROR)
    return nncf


def _is_exact(node: Node, *, role: str) -> bool:
    kind = node.get_type_name()
    if kind == "Convolution":
        return not _reads_map(node)
    if kind in ("Add", "Multiply", "Split", "VariadicSplit"):
        return role != "trunk" and not _adds_constant(node)
    return kind in _EXACT_TYPES


def _reads_map(convolution: Node) -> bool:
    """Return whether a convolution is a 3x3 or 5x5 one, or a squeeze that reads such a one."""
    taps = convolution.input_value(1).get_shape()[2:]
    before = convolution.input_value(0).get_node().get_type_name()
    return list(taps) != [1, 1] or before in ("Add", "Convolution")


def _adds_constant(node: Node) -> bool:
    kinds = [value.get_node().get_type_name() for value in node.input_values()]
    return node.get_type_name() == "Add" and "Constant" in kinds


def _train(pairs: Manifest) -> tuple[Pair, ...]:
    return pairs.of_split("train").pairs
