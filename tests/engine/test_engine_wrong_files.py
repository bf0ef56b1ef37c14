"""A bundle whose files aren't those of its card, or compute no image, gives an error, no image."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.torch import load_file, save_file

import d2csr
from d2csr.checkpoint.io import load_network
from d2csr.core.bundle import Bundle, read_bundle, write_card
from d2csr.core.errors import BundleError
from d2csr.core.files import sha256_file
from d2csr.engine.model import Model
from d2csr.engine.tail import run_strip
from tests.tiny_models import tiny_bundle

LR8 = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
BACKENDS = ("openvino", "onnxruntime", "torch", "reference")


@pytest.fixture
def copied(bundle: Bundle, tmp_path: Path) -> Bundle:
    """Return a copy of the bundle that a test may change."""
    shutil.copytree(bundle.folder, tmp_path / "model")
    return read_bundle(tmp_path / "model")


def rehash(bundle: Bundle, **changes: object) -> None:
    """Write the card with the hashes that the files have now, and other changes."""
    files = {name: sha256_file(bundle.folder / name) for name in bundle.card.files}
    write_card(bundle.folder, replace(bundle.card, files=files, **changes))


def alter_weights(path: Path, value: float) -> None:
    """Set the largest tensor of a graph, or the first of the network, to a value."""
    if path.suffix == ".safetensors":
        weights = load_file(path)
        weights["divergence.head.weight"].fill_(value)
        save_file(weights, path, metadata={"d2csr": '{"base": "bicubic"}'})
        return
    graph = onnx.load(path)
    largest = max(graph.graph.initializer, key=lambda each: len(each.raw_data))
    array = numpy_helper.to_array(largest).copy()
    array.fill(value)
    largest.CopyFrom(numpy_helper.from_array(array, largest.name))
    onnx.save(graph, path)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["model.safetensors", "trunk.onnx", "tail.onnx"])
def test_an_altered_weight_is_refused_by_every_backend(copied, backend, name):
    d2csr.load(copied.folder, backend=backend)
    alter_weights(copied.folder / name, 0.5)
    with pytest.raises(BundleError, match=f"doesn't match the hash of {name}"):
        d2csr.load(copied.folder, backend=backend)


def test_an_altered_weight_is_refused_when_training_starts_from_it(copied):
    load_network(copied.folder)
    alter_weights(copied.folder / "model.safetensors", 0.5)
    with pytest.raises(BundleError, match="doesn't match the hash"):
        load_network(copied.folder)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_weight_that_is_no_number_gives_no_image(copied, backend, value):
    """Before, SR was black, with exit code 0."""
    for name in ("model.safetensors", "tail.onnx"):
        alter_weights(copied.folder / name, value)
    rehash(copied)
    with pytest.raises(d2csr.D2csrError, match="that are infinite or not numbers"):
        d2csr.load(copied.folder, backend=backend, precision="fp32").upscale(LR8)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_pixel_that_is_no_number_is_an_error(bundle, monkeypatch, value):
    """In the last strip, of a model whose weights are right."""
    model = d2csr.load(bundle.folder, precision="fp32")
    model = Model(model.bundle, model.engine.with_strips(4))
    for run in (model.upscale, model.predict):
        run(LR8)
    monkeypatch.setattr("d2csr.engine.engine.run_strip", _spoil_last_strip(value))
    for run in (model.upscale, model.predict):
        with pytest.raises(BundleError, match="computes pixels that are infinite or not numbers"):
            run(LR8)


def _spoil_last_strip(value):
    def run(tail, strip, **inputs):
        part = run_strip(tail, strip, **inputs)
        if strip.last == len(LR8):
            part.output.sr[-1, -1, 2] = value
        return part

    return run


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize(
    "swap", [{"trunk": "tail", "tail": "trunk"}, {"trunk": "tail"}, {"tail": "trunk"}]
)
def test_a_graph_of_another_role_is_refused(copied, backend, swap):
    graphs = {role: f"{swap.get(role, role)}.onnx" for role in copied.card.graphs}
    rehash(copied, graphs=graphs)
    with pytest.raises(BundleError, match=r"is no graph (trunk|tail): its first input is"):
        d2csr.load(copied.folder, backend=backend, precision="fp32")


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_graphs_of_the_border_in_wrong_roles_are_refused(tmp_path, backend):
    bordered = tiny_bundle(tmp_path / "model", tail_border="each")
    swap = {"fusion": "border_tail", "border_tail": "fusion"}
    graphs = {role: f"{swap.get(role, role)}.onnx" for role in bordered.card.graphs}
    rehash(bordered, graphs=graphs)
    with pytest.raises(BundleError, match=r"is no graph (border_tail|fusion)"):
        d2csr.load(bordered.folder, backend=backend, precision="fp32")
