"""The architecture in the real spandrel: found, exact, and mistaken for no other."""

import runpy
from importlib import import_module
from types import ModuleType

import pytest
import torch

from d2csr.core.bundle import read_bundle
from d2csr.engine.model import find_bundle
from d2csr.export.other_programs import export_for
from tests.tiny_models import random_network

CHOICES = [
    {},
    {"base": "bicubic", "scale": 3, "depth": 1, "children": 3},
    {"attention": False, "trunk_groups": 1, "groups": 0, "convergence_grid": "lr"},
    {"mean": "convolution", "tail_border": "each", "convergence_last_relu": False},
    {"pooling_px": 5, "deep_residual": False, "convergence_channels": 0, "scale": 4},
]


@pytest.fixture
def ours(spandrel: ModuleType) -> ModuleType:
    """Return our module, which imports spandrel, with the architecture registered."""
    module = import_module("d2csr.integrations.spandrel")
    module.install()
    return module


@pytest.mark.parametrize("choices", CHOICES, ids=str)
def test_spandrel_loads_every_kind_of_network(choices, spandrel, ours, tmp_path):
    network = random_network(**choices).collapse()
    ours.save_for_spandrel(network, tmp_path / "tiny.safetensors")
    descriptor = spandrel.ModelLoader().load_from_file(tmp_path / "tiny.safetensors")
    assert descriptor.architecture.id == "D2CSR"
    assert descriptor.scale == network.config.scale
    assert descriptor.model.config == network.config
    lr = torch.rand(1, 3, 17, 12)
    with torch.inference_mode():
        assert torch.equal(descriptor(lr), network(lr).sr.clamp(0, 1))


@pytest.mark.parametrize("name", ["photo-x2", "photo-x4", "city100-iphone-x2", "city100-nikon-x3"])
def test_shipped_models_agree_with_the_engine(name, ours, tmp_path):
    (file,) = export_for("spandrel", read_bundle(find_bundle(name)), folder=tmp_path, images=())
    assert file.name == f"{name}.safetensors"
    assert file.difference < 1e-4


def test_no_other_detector_takes_our_files_and_ours_takes_no_other(spandrel, ours, tmp_path):
    ours.save_for_spandrel(random_network().collapse(), tmp_path / "tiny.safetensors")
    state = spandrel.ModelLoader().load_state_dict_from_file(tmp_path / "tiny.safetensors")
    others = [each for each in spandrel.MAIN_REGISTRY if each.architecture.id != "D2CSR"]
    assert len(others) > 30
    assert [each.architecture.id for each in others if each.detect(state)] == []
    compact = {"body.0.weight": torch.zeros(64, 3, 3, 3), "body.1.weight": torch.zeros(64)}
    assert not ours.D2CSRArchitecture().detect(compact)


def test_install_twice_changes_nothing(spandrel, ours):
    before = len(spandrel.MAIN_REGISTRY)
    ours.install()
    assert len(spandrel.MAIN_REGISTRY) == before


def test_half_precision_stays_close(spandrel, ours, tmp_path):
    export_for("spandrel", read_bundle(find_bundle("photo-x2")), folder=tmp_path, images=())
    descriptor = spandrel.ModelLoader().load_from_file(tmp_path / "photo-x2.safetensors")
    lr = torch.rand(1, 3, 20, 24)
    exact = descriptor(lr)
    half = descriptor.half()(lr.half())
    assert half.dtype == torch.float16
    assert (half.float() - exact).abs().max() < 2e-3


def test_the_folder_for_comfyui_registers_the_architecture(spandrel, ours, tmp_path):
    ours.write_comfyui_node(tmp_path / "d2csr")
    names = runpy.run_path(str(tmp_path / "d2csr/__init__.py"))
    assert names["NODE_CLASS_MAPPINGS"] == {}
    assert "D2CSR" in spandrel.MAIN_REGISTRY
