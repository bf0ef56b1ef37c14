"""Graphs for ncnn: their layers, their numbers on ncnn, and the seams between Upscayl's tiles."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from d2csr.checkpoint.io import load_weights
from d2csr.core.bundle import read_bundle
from d2csr.engine import open_engine
from d2csr.engine.model import find_bundle
from d2csr.export.graphs import write_whole
from d2csr.export.ncnn import run_ncnn, write_ncnn
from d2csr.images.reader import read_rgb8
from tests.tiny_models import random_network

pytest.importorskip("ncnn", reason="ncnn isn't installed")

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/city100_nikon_001_lr3.png"
# `option(WITH_LAYER_... ON)` in src/CMakeLists.txt of upscayl-ncnn, in ncnn's spelling.
IN_UPSCAYL = {
    *("BinaryOp", "Cast", "Clip", "Concat", "Convolution", "ConvolutionDepthWise", "Crop"),
    *("Deconvolution", "Eltwise", "Flatten", "GELU", "InnerProduct", "Input", "Interp"),
    *("LayerNorm", "MemoryData", "PReLU", "Packing", "Padding", "Permute", "PixelShuffle"),
    *("Pooling", "ReLU", "Reduction", "Reorg", "Reshape", "Sigmoid", "Slice", "Split", "Swish"),
}
PREPADDING_PX = 10  # of Upscayl's tiles, each side
PHOTO_MODELS = ("photo-x2", "photo-x4")

Run = Callable[[np.ndarray], np.ndarray]


def photo_graph(name: str, folder: Path) -> onnx.ModelProto:
    network = load_weights(find_bundle(name) / "model.safetensors").collapse()
    write_whole(network, folder / "whole.onnx")
    return onnx.load(folder / "whole.onnx")


def lr_planes(side_px: int) -> np.ndarray:
    """Return a square of the example photograph, (3, side, side), range 0 to 1."""
    crop = read_rgb8(EXAMPLE)[40 : 40 + side_px, 60 : 60 + side_px]
    return np.ascontiguousarray(crop.transpose(2, 0, 1) / np.float32(255))


@pytest.mark.parametrize(
    "choices",
    [
        {"depth": 1},
        {"depth": 2},
        {"depth": 1, "children": 3, "convergence_grid": "lr"},
        {"depth": 1, "convergence_channels": 0},
        {"depth": 1, "base": "bicubic", "convergence_grid": "lr", "scale": 3},
        {"depth": 2, "mean": "convolution", "scale": 4, "trunk_groups": 1},
    ],
    ids=str,
)
def test_ncnn_computes_what_the_network_computes(choices, tmp_path):
    network = random_network(attention=False, **choices).collapse()
    write_whole(network, tmp_path / "whole.onnx")
    write_ncnn(onnx.load(tmp_path / "whole.onnx"), tmp_path / "tiny")
    lr = lr_planes(24)[:, :, :17]
    expected = torch_sr(network, lr)
    np.testing.assert_allclose(run_ncnn(tmp_path / "tiny", lr), expected, rtol=0, atol=1e-4)


def torch_sr(network, lr: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return network(torch.from_numpy(lr)[None]).sr[0].numpy()


def test_weights_far_apart_stay_within_a_gray_level(tmp_path):
    """Logits of several predictions are cut off 10 below the largest."""
    network = random_network(attention=False, depth=2, convergence_last_relu=False).collapse()
    network.convergence.convs[2].weight.data *= 1e4
    write_whole(network, tmp_path / "whole.onnx")
    write_ncnn(onnx.load(tmp_path / "whole.onnx"), tmp_path / "tiny")
    lr = lr_planes(20)
    difference = np.abs(run_ncnn(tmp_path / "tiny", lr) - torch_sr(network, lr))
    assert difference.max() < 1e-3


@pytest.mark.parametrize("name", PHOTO_MODELS)
def test_the_photo_models_have_only_layers_of_upscayl_and_its_blobs(name, tmp_path):
    write_ncnn(photo_graph(name, tmp_path), tmp_path / name)
    magic, counts, *layers = (tmp_path / f"{name}.param").read_text().splitlines()
    assert magic == "7767517"
    assert int(counts.split()[0]) == len(layers)
    assert {layer.split()[0] for layer in layers} <= IN_UPSCAYL
    assert layers[0].split()[-1] == "data"
    assert layers[-1].split()[-2] == "output"


@pytest.mark.parametrize("name", PHOTO_MODELS)
def test_the_photo_models_on_ncnn_agree_with_the_engine(name, tmp_path):
    write_ncnn(photo_graph(name, tmp_path), tmp_path / name)
    lr = lr_planes(96)
    engine = open_engine(read_bundle(find_bundle(name)), backend="openvino", precision="fp32")
    sr = engine.run(lr.transpose(1, 2, 0)).sr.transpose(2, 0, 1)
    np.testing.assert_allclose(run_ncnn(tmp_path / name, lr), sr, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "tile_px"), [("photo-x2", 32), ("photo-x2", 100), ("photo-x2", 200), ("photo-x4", 32)]
)
def test_seams_of_upscayls_tiles_are_under_half_a_gray_level(name, tile_px, tmp_path):
    """Of SR that is far enough from the image's border, which Upscayl pads in its own way."""
    scale = int(name[-1])
    write_ncnn(photo_graph(name, tmp_path), tmp_path / name)
    lr, border = lr_planes(208 if tile_px > 32 else 112), 24 * scale
    whole = run_ncnn(tmp_path / name, lr)
    tiled = run_tiles(lambda tile: run_ncnn(tmp_path / name, tile), lr, side=tile_px, scale=scale)
    inner = np.abs(tiled - whole)[:, border:-border, border:-border]
    assert inner.max() * 255 < 0.5


def run_tiles(run: Run, lr: np.ndarray, *, side: int, scale: int) -> np.ndarray:
    """Return SR as Upscayl computes it: tile by tile, the image's border repeated."""
    around = (PREPADDING_PX, PREPADDING_PX + side)
    padded = np.pad(lr, ((0, 0), around, around), mode="edge")
    height, width = lr.shape[1:]
    sr = np.empty((3, height * scale, width * scale), np.float32)
    for y in range(0, height, side):
        for x in range(0, width, side):
            rows, columns = min(side, height - y), min(side, width - x)
            bottom, right = y + rows + 2 * PREPADDING_PX, x + columns + 2 * PREPADDING_PX
            tile = run(np.ascontiguousarray(padded[:, y:bottom, x:right]))
            cut = slice(PREPADDING_PX * scale, -PREPADDING_PX * scale)
            rows_out = slice(y * scale, (y + rows) * scale)
            sr[:, rows_out, x * scale : (x + columns) * scale] = tile[:, cut, cut]
    return sr


@pytest.mark.parametrize("name", PHOTO_MODELS)
def test_storage_in_fp16_costs_less_than_half_a_gray_level(name, tmp_path):
    """Every value rounded to float16, computed in float32, as Upscayl has ncnn do on a GPU.

    On x86 processors ncnn ignores the option, so the roundings are written into the ONNX graph.
    """
    graph = photo_graph(name, tmp_path)
    lr = lr_planes(96)
    exact, rounded = (run_onnx(each, lr) for each in (graph, with_fp16_storage(graph)))
    assert 0 < np.abs(rounded - exact).max() < 2e-3


def run_onnx(model: onnx.ModelProto, lr: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()  # else it would remove pairs of casts
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {"lr": lr[None]})[0][0]


def with_fp16_storage(model: onnx.ModelProto) -> onnx.ModelProto:
    stored = onnx.ModelProto()
    stored.CopyFrom(model)
    nodes = []
    for node in stored.graph.node:
        nodes.append(node)
        for index, name in enumerate(node.output):
            if node.op_type != "Identity":
                node.output[index] = f"{name}_exact"
                nodes += [
                    helper.make_node(
                        "Cast", [f"{name}_exact"], [f"{name}_16"], to=TensorProto.FLOAT16
                    ),
                    helper.make_node("Cast", [f"{name}_16"], [name], to=TensorProto.FLOAT),
                ]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del stored.graph.node[:]
    stored.graph.node.extend(copies)
    return stored


def test_an_operation_without_a_layer_is_an_error(tmp_path):
    write_whole(random_network(pooling_px=5).collapse(), tmp_path / "whole.onnx")
    with pytest.raises(ValueError, match="no layer of Upscayl's ncnn computes AveragePool"):
        write_ncnn(onnx.load(tmp_path / "whole.onnx"), tmp_path / "tiny")
