"""Commands `models`, `export` and `convert`: their messages and the cards they write."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from d2csr.checkpoint import load_network
from d2csr.checkpoint.io import options_json, save_checkpoint, save_weights
from d2csr.cli.app import main
from d2csr.core.bundle import read_bundle
from d2csr.engine.model import shipped_bundles
from tests.tiny_models import random_network, tiny_bundle

RECIPE = {
    "name": "mine",
    "seed": 7,
    "licence": "CC0-1.0",
    "data_note": "my pairs",
    "model": {"scale": 2},
    "data": {"train": "pairs"},
    "stages": [{"kind": "divergence", "steps": 3}],
}


def test_models_lists_scale_size_licence_and_scores(d2csr):
    answer = d2csr("models")
    assert answer.code == 0
    for bundle in shipped_bundles():
        assert f"{bundle.card.name}  x{bundle.card.scale}  " in answer.out
        scores = bundle.card.metadata.scores
        assert scores
        assert all(f"{score.psnr_db:.2f} dB" in answer.out for score in scores)


def test_export_of_a_run_takes_the_card_from_its_recipe_and_state(d2csr, tmp_path):
    network = random_network()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    save_checkpoint(
        tmp_path / "run/best",
        options=options_json(network.config),
        tensors={"model.safetensors": network.state_dict()},
        state={"step": 3, "earlier_steps": 10, "machine": "a test"},
    )
    answer = d2csr("export", tmp_path / "run", "-o", tmp_path / "out", "--data", "other pairs")
    assert (answer.code, answer.err) == (0, "")
    metadata = read_bundle(tmp_path / "out").card.metadata
    assert (metadata.name, metadata.licence, metadata.data) == ("mine", "CC0-1.0", "other pairs")
    assert (metadata.steps, metadata.seed, metadata.machine) == (13, 7, "a test")
    assert "fp32: verified, within 1e-05 of the network's largest value" in answer.out


def test_export_of_a_weights_file_states_no_licence(d2csr, tmp_path):
    save_weights(random_network(), tmp_path / "lone.safetensors")
    assert d2csr("export", tmp_path / "lone.safetensors", "-o", tmp_path / "out").code == 0
    metadata = read_bundle(tmp_path / "out").card.metadata
    assert (metadata.name, metadata.licence, metadata.data) == ("lone", "unstated", "unstated")


def test_export_renames_a_model(d2csr, tmp_path):
    tiny_bundle(tmp_path / "tiny")
    assert d2csr("export", tmp_path / "tiny", "-o", tmp_path / "out", "-n", "other").code == 0
    assert read_bundle(tmp_path / "out").card.name == "other"


def test_convert_official_writes_a_bundle(d2csr, data_folder, tmp_path):
    checkpoint = data_folder / "official/checkpoint_x2.pkl"
    answer = d2csr("convert", "official", checkpoint, "--output", tmp_path / "theirs")
    assert (answer.code, answer.err) == (0, "")
    card = read_bundle(tmp_path / "theirs").card
    assert (card.name, card.scale, card.config.tail_border) == ("theirs", 2, "each")
    assert "x2" in answer.out
    refused = d2csr("convert", "official", checkpoint, "-o", tmp_path / "b", "--scale", 3)
    assert refused.code == 2
    assert "its weights enlarge x2, not x3" in refused.err


def test_export_to_another_program_prints_the_difference_of_each_file(d2csr, tmp_path):
    answer = d2csr("export", "photo-x2", "--to", "onnx", "-o", tmp_path / "out")
    assert (answer.code, answer.err) == (0, "")
    fp32, fp16, context = answer.out.splitlines()
    for line, name, limit in ((fp32, "photo-x2.onnx", "1e-04"), (fp16, "-fp16.onnx", "2e-03")):
        assert f"{name}: fp" in line
        assert "largest difference to the engine " in line
        assert line.endswith(f"(limit {limit})")
    assert context.startswith("A pixel of SR depends on 24 LR pixels to each side")


def test_export_to_another_program_takes_no_entries_of_the_card(d2csr, tmp_path):
    answer = d2csr("export", "photo-x2", "--to", "onnx", "-o", tmp_path / "out", "-n", "other")
    assert answer.code == 2
    assert "--to: doesn't take --int8 or entries of the card" in answer.err


def test_export_to_another_program_needs_a_bundle(d2csr, tmp_path):
    save_weights(random_network(), tmp_path / "lone.safetensors")
    answer = d2csr("export", tmp_path / "lone.safetensors", "--to", "onnx", "-o", tmp_path / "out")
    assert answer.code == 2
    assert "is neither a shipped model nor a folder" in answer.err


@pytest.fixture(scope="module")
def converted(tmp_path_factory, data_folder):
    """Return the folder of EDSR x3, converted from the weights of its public code by a command."""
    folder = tmp_path_factory.mktemp("converted")
    with np.load(data_folder / "systems/EDSR_x3.npz") as arrays:
        state = {
            name.removeprefix("weight/"): torch.from_numpy(arrays[name])
            for name in arrays
            if name.startswith("weight/")
        }
    torch.save(state, folder / "EDSR_x3.pt")
    line = ["convert", "system", "edsr", str(folder / "EDSR_x3.pt"), "-o", str(folder / "edsr")]
    assert main([*line, "--set", "res_scale=0.1", "--licence", "MIT"]) == 0
    return folder


def test_convert_system_writes_a_bundle_whose_native_is_the_public_code(converted, data_folder):
    card = read_bundle(converted / "edsr").card
    assert (card.name, card.scale, card.metadata.licence) == ("edsr", 3, "MIT")
    assert card.config.sizes["res_scale"] == 0.1
    network = load_network(converted / "edsr")
    with np.load(data_folder / "systems/EDSR_x3.npz") as arrays, torch.no_grad():
        x, expected = (torch.from_numpy(arrays[name]) for name in ("input", "output"))
        difference = (network.native(x) - expected).abs().max() / expected.abs().max()
    assert difference < 1e-5


REFUSED = {
    "another system": (["rcan", "EDSR_x3.pt"], "no weights of rcan .* fit edsr: name that system"),
    "no system": (["edsrr", "EDSR_x3.pt"], "no system 'edsrr'; the nearest is edsr"),
    "no option": (
        ["edsr", "EDSR_x3.pt", "--set", "res_scal=0.1"],
        "no option 'res_scal'; the nearest is res_scale",
    ),
    "a missing option": (["edsr", "EDSR_x3.pt"], "--set res_scale=VALUE"),
    "no value": (["edsr", "EDSR_x3.pt", "--set", "res_scale"], "'res_scale' is not NAME=VALUE"),
    "twice": (
        ["edsr", "EDSR_x3.pt", "--set", "res_scale=1", "--set", "res_scale=2"],
        "res_scale is given twice",
    ),
    "no weights": (["d2csr", "EDSR_x3.pt"], "use `d2csr convert official`"),
    "no file": (["edsr", "none.pt"], "none.pt: it can't be read"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_convert_system_refuses_with_one_line(d2csr, converted, tmp_path, kind):
    (name, file, *more), message = REFUSED[kind]
    answer = d2csr("convert", "system", name, converted / file, *more, "-o", tmp_path / "out")
    assert answer.code == 2
    assert re.search(message, answer.err)
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_export_writes_the_bundle_of_a_system_again(d2csr, converted, tmp_path):
    answer = d2csr("export", converted / "edsr", "-o", tmp_path / "out", "--data", "DIV2K")
    assert (answer.code, answer.err) == (0, "")
    before, after = (read_bundle(each).card for each in (converted / "edsr", tmp_path / "out"))
    same_memory = replace(after.config, values_per_lr_px=before.config.values_per_lr_px)
    assert (same_memory, after.metadata.data) == (before.config, "DIV2K")  # memory is measured


def test_a_system_is_exported_for_onnx_and_refused_for_other_programs(d2csr, converted, tmp_path):
    answer = d2csr("export", converted / "edsr", "--to", "onnx", "-o", tmp_path)
    assert (answer.code, answer.err) == (0, "")
    assert (tmp_path / "edsr-x3.onnx").is_file()
    for program in ("ncnn", "darktable", "spandrel", "huggingface", "openmodeldb"):
        refused = d2csr("export", converted / "edsr", "--to", program, "-o", tmp_path / "no")
        assert refused.code == 2
        assert "network of edsr, which is written for ONNX alone" in refused.err
    refused = d2csr("export", converted / "edsr", "--int8", tmp_path, "-o", tmp_path / "no")
    assert (refused.code, "no graphs in int8" in refused.err) == (2, True)


def test_a_system_has_no_error_model(d2csr, converted, tmp_path, data_folder):
    pairs = data_folder / "city100/nikon_d5500_x3/val"
    refused = d2csr("calibrate", "-n", converted / "edsr", "--data", pairs, "-o", tmp_path / "no")
    assert (refused.code, "has one prediction" in refused.err) == (2, True)
