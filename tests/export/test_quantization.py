"""Graphs in int8: what is quantized and what is not, what it costs, and when there are none."""

import io
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch

from d2csr.cli.models import export
from d2csr.core.bundle import Bundle, read_bundle, verify_bundle
from d2csr.core.errors import BundleError, UsageError
from d2csr.core.manifest import Manifest
from d2csr.data.sources import open_pairs
from d2csr.engine import open_engine
from d2csr.engine.backends.base import load_backend
from d2csr.engine.backends.openvino import OpenVinoBackend
from d2csr.export import quantization
from d2csr.export.bundle_writer import export_bundle
from d2csr.export.quantization import (
    calibration_crops,
    int8_psnr_loss_db,
)
from d2csr.images.reader import read_rgb8
from d2csr.images.writer import write_rgb8
from tests.oracles.metrics import psnr_cut, weighted_sum
from tests.tiny_models import METADATA, random_network, tiny_bundle

SIZES = {"scale": 2, "base": "bicubic", "depth": 1, "pooling_px": 5}

needs_int8 = pytest.mark.skipif(
    "int8" not in load_backend("openvino").precisions("CPU"),
    reason="this processor computes no bfloat16, so that int8 is not offered either",
)


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Return two training pairs and a validation pair of smooth noise."""
    folder = tmp_path_factory.mktemp("pairs")
    generator = np.random.default_rng(3)
    for split, name in (("train", "a"), ("train", "b"), ("val", "c")):
        coarse = generator.integers(0, 256, (6, 7, 3), dtype=np.uint8)
        hr = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
        write_rgb8(_made(folder / split) / f"{name}_HR.png", hr)
        write_rgb8(folder / split / f"{name}_LR2.png", np.ascontiguousarray(hr[::2, ::2]))
    return open_pairs(folder)


@pytest.fixture(scope="session")
def exported_int8(tmp_path_factory: pytest.TempPathFactory, pairs: Manifest) -> tuple[Bundle, str]:
    """Return a bundle with graphs in int8, and the output of the command that made them."""
    pytest.importorskip("nncf")
    folder, output = tmp_path_factory.mktemp("int8"), io.StringIO()
    tiny_bundle(folder / "plain", **SIZES)
    with redirect_stdout(output):
        export(folder / "plain", output=folder / "int8", int8=pairs.pairs[0].lr.parents[1])
    return read_bundle(folder / "int8"), output.getvalue()


@pytest.fixture
def int8_bundle(exported_int8: tuple[Bundle, str]) -> Bundle:
    """Return a bundle with graphs in int8."""
    return exported_int8[0]


@needs_int8
def test_int8_is_near_float32_but_not_bfloat16(int8_bundle, pairs):
    lr01 = read_rgb8(pairs.pairs[-1].lr).astype(np.float32) / np.float32(255)
    exact, half, coarse = (
        open_engine(int8_bundle, backend="openvino", precision=name).run(lr01).predictions
        for name in ("fp32", "bf16", "int8")
    )
    spread = exact.std()
    assert 0 < np.abs(half - exact).mean() < np.abs(coarse - exact).mean() < 0.05 * spread


@needs_int8
def test_the_cost_on_the_card_is_that_of_the_validation_pairs(int8_bundle, pairs):
    (pair,) = pairs.of_split("val").pairs
    lr01 = read_rgb8(pair.lr).astype(np.float32) / np.float32(255)
    luma = (65.481 / 255, 128.553 / 255, 24.966 / 255)
    hr = weighted_sum(read_rgb8(pair.hr).astype(float), luma)
    psnrs = []
    for name in ("fp32", "int8"):
        sr = open_engine(int8_bundle, backend="openvino", precision=name).run(lr01).sr
        rounded = np.round(np.clip(sr, 0, 1) * 255).astype(float)
        psnrs.append(psnr_cut(weighted_sum(rounded, luma), hr, cut_px=2, peak=255))
    loss = read_bundle(int8_bundle.folder).card.precisions["int8"]
    assert loss.psnr_loss_db == pytest.approx(psnrs[0] - psnrs[1], abs=1e-4)
    assert f"loses {loss.psnr_loss_db:.3f} dB" in (int8_bundle.folder / "README.md").read_text()


@needs_int8
def test_files_in_int8_are_on_the_card(int8_bundle):
    files = {path.name for path in int8_bundle.folder.iterdir()}
    assert {"trunk_int8.xml", "trunk_int8.bin", "tail_int8.xml", "tail_int8.bin"} <= files
    assert files == {*int8_bundle.card.files, "bundle.json", "README.md"}
    verify_bundle(int8_bundle)


@needs_int8
@pytest.mark.parametrize("role", ["trunk", "tail"])
def test_convolutions_have_int8_weights_but_for_gates_and_base(int8_bundle, role):
    model = openvino.Core().read_model(int8_bundle.graph(f"{role}_int8"))
    kinds = []
    for node in model.get_ordered_ops():
        if node.get_type_name() in ("Convolution", "GroupConvolution"):
            inputs = node.input_value(1).get_shape()[1]
            exact = node.get_type_name() == "GroupConvolution" or inputs == 1
            kinds.append((exact, _stored(node.input_value(1).get_node())))
    assert {stored for exact, stored in kinds if not exact} == {"i8"}
    assert {stored for exact, stored in kinds if exact} == {"f32"}
    assert [exact for exact, _ in kinds].count(True) == {"trunk": 2, "tail": 1}[role]


@needs_int8
def test_the_bicubic_base_keeps_what_float32_has(tmp_path, pairs):
    """Without anything to add, SR is the base."""
    pytest.importorskip("nncf")
    network = random_network(**SIZES).collapse()
    for tail in network.divergence.tails:
        for value in tail.parameters():
            torch.nn.init.zeros_(value)
    bundle = export_bundle(network, tmp_path / "base", metadata=METADATA, int8_by=pairs)
    lr01 = read_rgb8(pairs.pairs[-1].lr).astype(np.float32) / np.float32(255)
    exact, coarse = (
        open_engine(bundle, backend="openvino", precision=name).run(lr01).sr
        for name in ("fp32", "int8")
    )
    assert np.abs(exact - coarse).max() < 1e-4


@needs_int8
def test_a_model_with_the_authors_border_runs_in_int8(tmp_path, pairs):
    pytest.importorskip("nncf")
    network = random_network(scale=2, depth=1, tail_border="each")
    bundle = export_bundle(network, tmp_path / "each", metadata=METADATA, int8_by=pairs)
    graphs = bundle.card.graphs
    assert graphs["border_tail_int8"] == graphs["border_tail"]
    assert graphs["fusion_int8"] == "fusion_int8.xml"
    lr01 = read_rgb8(pairs.pairs[-1].lr).astype(np.float32) / np.float32(255)
    exact, coarse = (
        open_engine(bundle, backend="openvino", precision=name).run(lr01).sr
        for name in ("fp32", "int8")
    )
    assert 0 < np.abs(exact - coarse).mean() < 0.05 * exact.std()


@needs_int8
def test_a_model_that_int8_costs_too_much_is_refused(int8_bundle, pairs, monkeypatch):
    monkeypatch.setattr(quantization, "LOSS_LIMIT_DB", -9.0)
    with pytest.raises(BundleError, match=r"int8 loses .* dB on the val split.*without `--int8`"):
        int8_psnr_loss_db(int8_bundle, pairs=pairs)


@pytest.mark.parametrize("split", ["train", "val"])
def test_pairs_without_a_split_are_refused_before_any_work(tmp_path, pairs, split, monkeypatch):
    monkeypatch.setattr(quantization, "find_spec", lambda package: package)
    monkeypatch.setattr(
        OpenVinoBackend, "precisions", lambda self, device: ("int8", "bf16", "fp32")
    )
    (other,) = {"train", "val"} - {split}
    with pytest.raises(UsageError, match=f"no {split} split"):
        export_bundle(
            random_network(), tmp_path / "b", metadata=METADATA, int8_by=pairs.of_split(other)
        )
    assert not list(tmp_path.iterdir())


def test_without_nncf_the_extra_is_named(tmp_path, pairs, monkeypatch):
    monkeypatch.setattr(quantization, "find_spec", lambda package: None)
    with pytest.raises(UsageError, match=r"needs nncf.*'d2csr\[quantize\]'"):
        export_bundle(random_network(), tmp_path / "b", metadata=METADATA, int8_by=pairs)


def test_a_processor_without_int8_is_an_error(tmp_path, pairs, monkeypatch):
    monkeypatch.setattr(quantization, "find_spec", lambda package: package)
    monkeypatch.setattr(OpenVinoBackend, "precisions", lambda self, device: ("fp32",))
    with pytest.raises(UsageError, match="no int8 beside bf16"):
        export_bundle(random_network(), tmp_path / "b", metadata=METADATA, int8_by=pairs)


@needs_int8
def test_the_command_prints_the_loss_of_int8(exported_int8):
    bundle, output = exported_int8
    assert (
        f"{bundle.card.precisions['int8'].psnr_loss_db:.3f} dB of PSNR lost on the val split"
        in output
    )


def test_crops_are_the_same_each_time_and_of_different_images():
    images = [np.full((200, 150, 3), gray, np.uint8) for gray in range(60)]
    crops = list(calibration_crops(images, count=20))
    assert [round(255 * float(crop[0, 0, 0])) for crop in crops] == list(range(0, 60, 3))
    assert {crop.shape for crop in crops} == {(128, 128, 3)}
    marked = [np.random.default_rng(0).integers(0, 256, (200, 150, 3), dtype=np.uint8)]
    assert np.array_equal(*(next(calibration_crops(marked)) for _ in range(2)))


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _stored(node: openvino.Node) -> str:
    """Return the type that a convolution's weights are kept in, behind what unpacks them."""
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    return node.get_element_type().get_type_name()
