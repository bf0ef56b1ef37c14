"""Quantization of a bundle's graphs to int8 by NNCF, the sensitive parts left in bfloat16.

Left in bfloat16 are the bicubic base and the sums after it, which carry the 8 bits of SR; the last
convolution of each gate, whose one channel would only be copied; and the fusion. If a model still
loses more than `LOSS_LIMIT_DB` on pairs it has never seen, nothing is written.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import openvino
from jaxtyping import Float32, UInt8
from openvino import Model, Node
from openvino.passes import ConstantFolding, Manager

from d2csr.core.bundle import Bundle, ModelCard
from d2csr.core.errors import BundleError, UsageError, format_beyond
from d2csr.core.files import sha256_file
from d2csr.core.manifest import Manifest
from d2csr.data.pairs import load_pair
from d2csr.engine import open_engine
from d2csr.engine.backends.base import NchwArray, Precision, graph_role, load_backend
from d2csr.engine.backends.openvino import READY, optimize_graph
from d2csr.engine.backends.openvino_rewrites import split_bf16
from d2csr.metrics.protocols import score

CALIBRATION_IMAGES = 24  # 60 change nothing: benchmarks/int8.py
_CROP_PX = 128  # three times the window of local pooling

Inputs = Mapping[str, NchwArray]
Crop = Float32[np.ndarray, "_ _ 3"]


def calibration_crops(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]], *, count: int = CALIBRATION_IMAGES
) -> Iterator[Crop]:
    """Yield a crop of every n-th image, at the same positions in every call."""
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
    """Yield the inputs of a role's graph for each crop, by name, computed in float32.

    Args:
        bundle: with the graphs in float32.
        role: of its card.
        model: the graph of the role; `lr` may be split for bfloat16.
        crops: LR.
    """
    names = [port.get_any_name() for port in model.inputs]
    backend = load_backend("openvino")
    graphs = {
        each: backend.compile_graph(bundle, each, device="CPU", precision="fp32")
        for each in {"trunk": (), "tail": ("trunk",)}.get(role, ("trunk", "tail"))
    }
    for crop in crops:
        lr = np.ascontiguousarray(crop.transpose(2, 0, 1)[None])
        values: dict[str, NchwArray] = {"lr": lr}
        if "trunk" in graphs:
            (values["features"],) = graphs["trunk"]([lr])
        if "tail" in graphs:
            values["predictions"] = graphs["tail"]([values["features"], lr])[0]
        if role != "trunk" and _takes_split_image(model):
            values["lr"] = split_bf16(lr)
        yield {name: values[name] for name in names}


def _takes_split_image(model: Model) -> bool:
    shapes = {port.get_any_name(): port.get_partial_shape() for port in model.inputs}
    return "lr" in shapes and shapes["lr"][1].get_length() != 3


LOSS_LIMIT_DB = 0.05
_PROTOCOL = "y"
_NOT_QUANTIZED = ("border_tail",)  # runs on strips of four pixels: nothing to gain
_BF16_TYPES = (
    *("GroupConvolution", "Pad", "Clamp", "Softmax", "ReduceSum"),
    *("ReduceMean", "AvgPool", "Transpose"),
)


def check_quantizable(pairs: Manifest) -> None:
    """Check that int8 is possible here and with these pairs, before any graph is written.

    Raises:
        UsageError: NNCF isn't installed, this processor has no fast int8, or the pairs have no
            train or no val split.
    """
    if find_spec("nncf") is None:
        remedy = "Run `pip install 'd2csr[quantize]'`."
        raise UsageError("int8", "needs nncf, which isn't installed", remedy=remedy)
    if "int8" not in load_backend("openvino").precisions("CPU"):
        remedy = "Export on a processor with AVX-512 BF16 or AMX."
        raise UsageError("int8", "this processor has no int8 beside bf16", remedy=remedy)
    for split in ("train", "val"):
        if not pairs.of_split(split).pairs:
            remedy = "Give pairs with a train split to calibrate on and a val split to measure on."
            raise UsageError("int8", f"the pairs have no {split} split", remedy=remedy)


def add_int8(bundle: Bundle, *, pairs: Manifest) -> ModelCard:
    """Write int8 graphs into a bundle's folder and return the card with them.

    Args:
        bundle: with the graphs in float32.
        pairs: the train split is used.
    """
    scale = bundle.card.scale
    train = pairs.of_split("train").pairs
    crops = list(calibration_crops([load_pair(each, scale=scale)[0] for each in train]))
    graphs, files = dict(bundle.card.graphs), dict(bundle.card.files)
    for role, name in bundle.card.graphs.items():
        int8_role = graph_role(role, "int8")
        if role in _NOT_QUANTIZED:
            graphs[int8_role] = name
            continue
        path = save_quantized(quantize_graph(bundle, role, crops=crops), bundle.folder, role=role)
        graphs[int8_role] = path.name
        files |= {each.name: sha256_file(each) for each in (path, path.with_suffix(".bin"))}
    return replace(bundle.card, graphs=graphs, files=files)


def int8_psnr_loss_db(bundle: Bundle, *, pairs: Manifest) -> float:
    """Return the PSNR in dB that the val split loses from float32 to int8.

    Raises:
        BundleError: it is more than `LOSS_LIMIT_DB`.
    """
    found: dict[Precision, float] = {
        precision: psnr_db(bundle, precision, pairs=pairs.of_split("val"))
        for precision in ("fp32", "int8")
    }
    loss_db = found["fp32"] - found["int8"]
    if not loss_db <= LOSS_LIMIT_DB:  # NaN is not
        shown = format_beyond(loss_db, LOSS_LIMIT_DB, spec=".3f")
        problem = f"int8 loses {shown} dB on the val split, over {LOSS_LIMIT_DB} dB"
        raise BundleError(bundle.card.name, problem, remedy="Export it without `--int8`.")
    return round(loss_db, 4)


def psnr_db(bundle: Bundle, precision: Precision, *, pairs: Manifest) -> float:
    """Return the mean PSNR of SR in a precision, in dB by protocol `y`."""
    engine, scale = open_engine(bundle, backend="openvino", precision=precision), bundle.card.scale
    psnrs: list[float] = []
    for pair in pairs.pairs:
        lr, hr = load_pair(pair, scale=scale)
        sr = engine.run(lr.astype(np.float32) / np.float32(255)).sr
        psnrs.append(score(sr, hr, protocol=_PROTOCOL, scale=scale).psnr_db)
    return float(np.mean(psnrs))


def quantize_graph(bundle: Bundle, role: str, *, crops: Sequence[Crop]) -> Model:
    """Return a role's graph in the form that the engine runs, its convolutions in int8.

    Args:
        bundle: with the graph in float32.
        role: of its card.
        crops: LR to calibrate on.
    """
    nncf = import_nncf()
    model = float_graph(bundle, role)
    inputs = [dict(each) for each in calibration_inputs(bundle, role, model=model, crops=crops)]
    ignored = nncf.IgnoredScope(names=ignored_ops(model, role=role))
    dataset = nncf.Dataset(inputs)
    return nncf.quantize(model, dataset, subset_size=len(inputs), ignored_scope=ignored)


def save_quantized(model: Model, folder: Path, *, role: str) -> Path:
    """Write a graph as the two files of a role in int8 and return the first."""
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
    """Return the names of the operations that stay in bfloat16."""
    nodes = model.get_ordered_ops()
    return [node.get_friendly_name() for node in nodes if _stays_bf16(node, role=role)]


def import_nncf() -> ModuleType:
    """Return NNCF, without its telemetry and its messages about every operation."""
    os.environ.setdefault("NNCF_CI", "1")  # read when it is imported, which takes seconds
    nncf = import_module("nncf")
    nncf.set_log_level(logging.ERROR)
    return nncf


def _stays_bf16(node: Node, *, role: str) -> bool:
    kind = node.get_type_name()
    if kind == "Convolution":
        return not _reads_map(node)
    if kind in ("Add", "Multiply", "Split", "VariadicSplit"):
        return role != "trunk" and not _adds_constant(node)
    return kind in _BF16_TYPES


def _reads_map(convolution: Node) -> bool:
    """Return whether a convolution is 3x3 or 5x5, or a squeeze that reads the output of one."""
    taps = convolution.input_value(1).get_shape()[2:]
    before = convolution.input_value(0).get_node().get_type_name()
    return list(taps) != [1, 1] or before in ("Add", "Convolution")


def _adds_constant(node: Node) -> bool:
    kinds = [value.get_node().get_type_name() for value in node.input_values()]
    return node.get_type_name() == "Add" and "Constant" in kinds
