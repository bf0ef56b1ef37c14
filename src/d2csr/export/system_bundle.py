"""Bundles of the compared systems: weights, and one graph from LR to SR with all around it.

The graph takes RGB in 0..1 of any sides: the bicubic enlargement, the change to luma and back, and
the padding to multiples are part of it. It is traced on sides that need padding, so that padding
depends on the sides that the graph is given.
"""

import math
import warnings
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino
import torch
from jaxtyping import Float32, Float64, UInt8
from openvino import Node
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from d2csr.checkpoint.systems import save_system_weights, system_name
from d2csr.core.bundle import WEIGHTS_NAME, Bundle, ModelCard, ModelMetadata, read_bundle
from d2csr.core.bundle_readme import check_bundle_folder, write_card_and_readme
from d2csr.core.errors import BundleError
from d2csr.core.files import atomic_folder, sha256_file
from d2csr.core.hardware import peak_rss_bytes, reset_peak_rss, rss_bytes
from d2csr.core.system_config import SystemConfig
from d2csr.engine import open_engine
from d2csr.export.verification import LIMIT, iter_crops, measure_precision_errors, noise_image
from d2csr.models.networks.base import SystemNetwork

GRAPH_NAME = "whole.onnx"
_OPSET = 17
_TRACED_PX = (21, 19)  # no multiples of what any network pads to
# Sides of the image that memory is measured on, of networks up to so many GFLOP/MP and beyond:
# large ones hold so much per pixel that a small image shows it.
_LARGE_GFLOP, _MEASURED_PX = 2000, (160, 96)
_RESET_BYTES = 16 << 20  # a peak that much above the present one wasn't reset
_COUNTED_PX = 48  # a multiple of what every network pads to
_ROUNDING = 3.0  # times the error of the network in float32
_STRIP_ROWS = 7
_NOISE_PX = 25  # high: a large network takes a second per thousand pixels in float64
_BACKEND = "openvino"  # which every installation has
# Operations whose result takes the place of their only input.
_IN_PLACE = frozenset(
    ("Relu", "PRelu", "Sigmoid", "Swish", "Gelu", "Clamp", "Reshape", "Squeeze", "Unsqueeze")
) | frozenset(("Add", "Subtract", "Multiply", "Divide", "Sqrt", "Power", "Convert", "Exp"))

Image = UInt8[np.ndarray, "_ _ 3"]  # each of its own size


def write_system_bundle(
    network: SystemNetwork,
    folder: Path,
    *,
    metadata: ModelMetadata,
    verify_on: Sequence[Image] = (),
) -> Bundle:
    """Write a network as a bundle, verify that the engine agrees with it, and return the bundle.

    Args:
        network: as it was trained; its graph is that of `for_inference`.
        folder: of the bundle; a bundle already there is replaced at the end.
        metadata: name, licence, training and scores.
        verify_on: real LR images to compare on; without any, an image of noise.

    Raises:
        BundleError: bundle and network differ by more than the limit, or the folder holds something
            else; the folder is as it was.
    """
    check_bundle_folder(folder)
    network = deepcopy(network).cpu().float().eval().requires_grad_(False)
    with atomic_folder(folder) as temporary:
        bundle = _write_float32(network, temporary, metadata=metadata)
        verify_system(bundle, network, images=verify_on or [noise_image()[:_NOISE_PX, :]])
        errors = measure_precision_errors(bundle, images=verify_on)
        write_card_and_readme(temporary, replace(bundle.card, precisions=errors))
    return read_bundle(folder)


def _write_float32(network: SystemNetwork, folder: Path, *, metadata: ModelMetadata) -> Bundle:
    """Write weights, graph and card; return the bundle, which has no other precision."""
    save_system_weights(network, folder / WEIGHTS_NAME)
    ready = network.for_inference().eval().requires_grad_(False)
    write_system_graph(ready, folder / GRAPH_NAME)
    config = describe_system(network, folder / GRAPH_NAME)
    card = ModelCard(
        metadata=metadata,
        scale=config.scale,
        parameters=sum(value.numel() for value in ready.parameters()),
        config=config,
        receptive_field=config.receptive_field,
        graphs={"whole": GRAPH_NAME},
        files={name: sha256_file(folder / name) for name in (WEIGHTS_NAME, GRAPH_NAME)},
    )
    write_card_and_readme(folder, card)
    return read_bundle(folder)


def write_system_graph(network: SystemNetwork, path: Path) -> None:
    """Write the graph lr (1, 3, h, w) -> sr (1, 3, S h, S w), RGB in 0..1, as ONNX.

    Args:
        network: as `for_inference` returns it.
        path: of the file.
    """
    lr = torch.rand(1, 3, *_TRACED_PX)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # that sizes are tensors, which is wanted
        torch.onnx.export(
            network,
            (lr,),
            path,
            dynamo=False,  # the newer exporter fixes sizes that it compares
            opset_version=_OPSET,
            input_names=["lr"],
            output_names=["sr"],
            dynamic_axes={"lr": {2: "h", 3: "w"}, "sr": {2: "sh", 3: "sw"}},
        )


def describe_system(network: SystemNetwork, graph: Path) -> SystemConfig:
    """Return the configuration of a network for its card.

    Args:
        network: as it was trained.
        graph: its graph.
    """
    gflop = count_gflop(network.for_inference())
    side = _MEASURED_PX[gflop > _LARGE_GFLOP]
    multiple = network.side_multiple
    if network.takes == "enlarged":
        multiple //= math.gcd(multiple, network.scale)
    return SystemConfig(
        system=system_name(network),
        scale=network.scale,
        sizes=network.sizes,
        receptive_field_lr_px=network.receptive_field,
        row_multiple=multiple,
        values_per_lr_px=round(max(count_values(graph), measure_values(graph, side_px=side)), 1),
        gflop_per_lr_mp=round(gflop, 3),
    )


def count_gflop(network: SystemNetwork) -> float:
    """Return the operations for a million LR pixels, in 1e9; a multiply-add counts as 2."""
    side = _COUNTED_PX
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.rand(1, 3, side, side))
    return counter.get_total_flops() / side**2 / 1e3


def count_values(graph: Path) -> float:
    """Return the values that a graph holds at a time, at most, per LR pixel.

    They are those of all maps that a later operation reads, in the order of the graph.
    """
    model = openvino.Core().read_model(graph)
    model.reshape([1, 3, _COUNTED_PX, _COUNTED_PX])
    nodes = [each for each in model.get_ordered_ops() if each.get_type_name() != "Constant"]
    last_read: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for value in node.input_values():
            last_read[value.get_node().get_friendly_name()] = index
    held: dict[str, int] = {}
    peak = 0
    for index, node in enumerate(nodes):
        ended = [name for name in held if last_read.get(name, index) <= index]
        if _runs_in_place(node, ended):
            for name in ended:
                del held[name]
        held[node.get_friendly_name()] = _values(node)
        peak = max(peak, sum(held.values()))
        for name in ended:
            held.pop(name, None)
    return peak / _COUNTED_PX**2


def measure_values(graph: Path, *, side_px: int) -> float:
    """Return the float32 values that OpenVINO takes per LR pixel; 0 where it can't be measured.

    It takes more than the maps that are read later: 1.1 (EDSR) to 1.5 (D-DBPN) times as much, of
    graphs whose shapes depend on several others up to 20 times (SRFlow).
    """
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    compiled.create_infer_request().infer([np.zeros((1, 3, 16, 16), np.float32)])
    image = np.full((1, 3, side_px, side_px), 0.5, np.float32)
    reset_peak_rss()
    before, peak = rss_bytes(), peak_rss_bytes()
    if before is None or peak is None or peak - before > _RESET_BYTES:
        return 0.0
    compiled.create_infer_request().infer([image])
    return ((peak_rss_bytes() or before) - before) / 4 / side_px**2


def _values(node: Node) -> int:
    """Return the number of values of a node's results; of shapes and numbers, next to none."""
    return sum(math.prod(output.get_shape()) for output in node.outputs())


def _runs_in_place(node: Node, ended: list[str]) -> bool:
    """Return whether the result of a node may take the place of an input that ends with it."""
    inputs = {value.get_node().get_friendly_name() for value in node.input_values()}
    return node.get_type_name() in _IN_PLACE and any(name in inputs for name in ended)


def verify_system(bundle: Bundle, network: SystemNetwork, *, images: Iterable[Image]) -> float:
    """Return the largest difference between bundle and network, relative to the largest value.

    The network is computed in float64. SR may differ from it by `LIMIT`, or by `_ROUNDING` times
    as much as the network in float32 does.

    Args:
        bundle: run by the engine, whole and in short strips, which must change nothing.
        network: run by torch, as it was trained.
        images: real LR images, of which the middle is compared; tiny crops of the first one too.

    Raises:
        BundleError: SR differs by more.
    """
    exact = deepcopy(network).double()
    engine = open_engine(bundle, backend=_BACKEND, precision="fp32")
    reach = bundle.card.config.receptive_field.trunk_lr_px
    differences: list[float] = []
    for lr8 in iter_crops(images):
        lr01 = lr8.astype(np.float32) / np.float32(255)
        engines = [engine]
        if reach is not None and bundle.card.receptive_field.halo_lr_rows < lr8.shape[0]:
            engines.append(engine.with_strips(_STRIP_ROWS))
        expected = _run(exact, lr01)
        limit = max(LIMIT, _ROUNDING * _difference(_run(network, lr01), expected))
        for each in engines:
            found = _difference(each.run(lr01).sr, expected)
            if not found <= limit:  # NaN is not
                problem = f"differs from its network by {found:.1e} of the largest value"
                remedy = "Report this as an error of d2csr."
                raise BundleError(bundle.card.name, problem, remedy)
            differences.append(found)
    return max(differences)


def _run(
    network: SystemNetwork, lr01: Float32[np.ndarray, "h w 3"]
) -> Float64[np.ndarray, "sh sw 3"]:
    """Return the SR of the network in torch, in the layout of the engine."""
    dtype = next(network.parameters()).dtype
    with torch.inference_mode():
        sr: Tensor = network(torch.from_numpy(lr01).to(dtype).permute(2, 0, 1)[None])
    return sr[0].permute(1, 2, 0).double().numpy()


def _difference(sr: np.ndarray, expected: Float64[np.ndarray, "sh sw 3"]) -> float:  # pyright: ignore[reportMissingTypeArgument]
    """Return the largest difference, relative to the largest value."""
    return float(np.abs(sr - expected).max() / max(1.0, np.abs(expected).max()))
