"""Commands `models`, `export` and `convert official`: their messages and the cards they write."""

import yaml

from d2csr.checkpoint.io import save_checkpoint, save_weights
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
        config=network.config,
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
