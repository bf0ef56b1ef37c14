"""Weights files: any network comes back from one, and no damaged one gets in."""

import json

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from d2csr.checkpoint import load_network
from d2csr.checkpoint.io import (
    EMA_FILE,
    METADATA_KEY,
    MODEL_FILE,
    STATE_FILE,
    config_from_shapes,
    expected_shapes,
    last_checkpoint,
    load_weights,
    options_json,
    read_state,
    save_checkpoint,
    save_weights,
)
from d2csr.core.config import ModelConfig
from d2csr.core.errors import CheckpointError
from d2csr.models.d2csr import D2CSR

CONFIGS = st.builds(
    ModelConfig,
    scale=st.sampled_from([2, 3, 4, 8]),
    channels=st.integers(1, 20),
    depth=st.integers(1, 2),
    children=st.integers(1, 3),
    groups=st.integers(0, 2),
    blocks=st.integers(1, 2),
    trunk_groups=st.integers(1, 2),
    convergence_channels=st.integers(1, 9),
    deep_residual=st.booleans(),
    base=st.sampled_from(["none", "bicubic"]),
    mean=st.sampled_from(["fixed", "convolution"]),
    tail=st.sampled_from(["expanded", "collapsed"]),
    convergence_grid=st.sampled_from(["sr", "lr"]),
    attention=st.booleans(),
    convergence_last_relu=st.booleans(),
) | st.builds(
    ModelConfig,
    scale=st.sampled_from([2, 3, 4, 8]),
    channels=st.integers(1, 20),
    groups=st.integers(1, 2),
    blocks=st.integers(1, 2),
    tail_border=st.sampled_from(["features", "each"]),
    pooling_px=st.sampled_from([None, 3, 49]),
    convergence_channels=st.sampled_from([0, 4]),
)
SMALL = ModelConfig(scale=2, channels=4, groups=1, blocks=1, convergence_channels=3)


@given(config=CONFIGS)
@example(config=ModelConfig(scale=2, channels=2, depth=4, children=2, groups=1, blocks=1))
@settings(max_examples=15)
def test_every_size_is_read_back_from_names_and_shapes(config):
    assert config_from_shapes(expected_shapes(config), options_json(config), where="here") == config


@given(config=CONFIGS)
@settings(max_examples=6)
def test_weights_come_back_from_the_file(tmp_path_factory, config):
    network = D2CSR(config)
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_weights(network, path)
    again = load_weights(path)
    assert again.config == config
    assert not again.training
    for name, value in network.state_dict().items():
        assert again.state_dict()[name].equal(value), name


def test_the_file_is_flat_and_whole(tmp_path):
    network = D2CSR(SMALL)
    save_weights(network, tmp_path / MODEL_FILE)
    assert set(load_file(tmp_path / MODEL_FILE)) == set(network.state_dict())
    assert [path.name for path in tmp_path.iterdir()] == [MODEL_FILE]


def test_without_metadata_the_paper_s_choices_hold(tmp_path):
    network = D2CSR(SMALL)
    save_file(network.state_dict(), tmp_path / MODEL_FILE)
    assert load_network(tmp_path).config == SMALL


@pytest.mark.parametrize(
    "options",
    [
        "not json",
        "[]",
        "3",
        '{"base": "linear"}',
        '{"base": 3}',
        '{"scale": 3}',
        '{"pooling_px": "wide"}',
        '{"pooling_px": 4}',
        '{"convergence_last_relu": "no"}',
        '{"tail_border": null}',
        "[" * 100_000,
    ],
)
def test_metadata_that_we_never_wrote_is_refused(tmp_path, options):
    path = tmp_path / MODEL_FILE
    save_file(D2CSR(SMALL).state_dict(), path, metadata={METADATA_KEY: options})
    with pytest.raises(CheckpointError, match="not those of a D2C-SR network"):
        load_weights(path)


def reshaped(tensors, name, *shape):
    tensors[name] = torch.zeros(shape)


@pytest.mark.parametrize(
    "damage",
    [
        lambda t: t.clear(),
        lambda t: t.pop("divergence.head.weight"),
        lambda t: t.pop("divergence.branches.0-1.conv.bias"),
        lambda t: t.pop("convergence.convs.1.weight"),
        lambda t: t.update(extra=torch.zeros(1)),
        lambda t: reshaped(t, "divergence.head.weight"),
        lambda t: reshaped(t, "divergence.head.weight", 0, 3, 3, 3),
        lambda t: reshaped(t, "divergence.head.weight", 5, 3, 3, 3),
        lambda t: reshaped(t, "divergence.head.weight", 10**6, 0, 3, 3),
        lambda t: reshaped(t, "convergence.convs.0.weight", 10**9, 0, 3, 3),
        lambda t: reshaped(t, "divergence.tails.0.up.0.weight", 10**9, 0, 3, 3),
        lambda t: reshaped(t, "divergence.tails.0.out.bias", 4),
        lambda t: reshaped(t, "divergence.branches.x.conv.bias", 4),
        lambda t: reshaped(t, "divergence.branches.0-7.conv.bias", 4),
        lambda t: reshaped(t, f"divergence.branches.{'-'.join('0' * 5000)}.conv.bias", 4),
        lambda t: reshaped(t, f"divergence.branches.0-{10**30}.conv.bias", 4),
        lambda t: reshaped(t, "divergence.branches.0.groups.9.conv.bias", 4),
        lambda t: reshaped(t, "x" * 100_000, 4),
    ],
)
def test_tensors_of_no_network_are_refused_before_any_is_built(tmp_path, damage):
    tensors = D2CSR(SMALL).state_dict()
    damage(tensors)
    save_file(tensors, tmp_path / MODEL_FILE, metadata={METADATA_KEY: options_json(SMALL)})
    with pytest.raises(CheckpointError):
        load_network(tmp_path)


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_truncated_files_are_refused(tmp_path, keep):
    path = tmp_path / MODEL_FILE
    save_weights(D2CSR(SMALL), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="is missing, damaged, or no safetensors file"):
        load_network(tmp_path)


def test_a_pickle_in_disguise_is_refused(tmp_path):
    torch.save(D2CSR(SMALL).state_dict(), tmp_path / MODEL_FILE)
    with pytest.raises(CheckpointError, match="is missing, damaged, or no safetensors file"):
        load_network(tmp_path)


@pytest.mark.parametrize("place", ["", "missing"])
def test_a_folder_without_weights_is_refused(tmp_path, place):
    with pytest.raises(CheckpointError, match=r"no model\.safetensors"):
        load_network(tmp_path / place)


def numbered(value):
    """Return a network whose every weight is one number, to tell where it was loaded from."""
    network = D2CSR(SMALL)
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, value)
    return network


def put(folder, value, *, name=MODEL_FILE):
    save_checkpoint(
        folder,
        options=options_json(SMALL),
        tensors={name: numbered(value).state_dict()},
        state={"step": value},
    )


def loaded(folder):
    return load_network(folder).divergence.head.bias[0].item()


def test_of_a_run_bundle_comes_before_best_before_last(tmp_path):
    put(tmp_path / "checkpoints" / "step-00000009", 9)
    put(tmp_path / "checkpoints" / "step-00000010", 10)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoints" / "step-00000010"
    assert loaded(tmp_path) == 10
    put(tmp_path / "best", 2)
    assert loaded(tmp_path) == 2
    put(tmp_path / "bundle", 3)
    assert loaded(tmp_path) == 3
    assert loaded(str(tmp_path / "best")) == 2


def test_of_a_checkpoint_the_averaged_weights_count(tmp_path):
    tensors = {MODEL_FILE: numbered(1).state_dict(), EMA_FILE: numbered(2).state_dict()}
    save_checkpoint(tmp_path / "one", options=options_json(SMALL), tensors=tensors, state={})
    assert loaded(tmp_path / "one") == 2


@pytest.mark.parametrize("text", [None, "", "{", "\xff"])
def test_a_damaged_state_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / STATE_FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(
        CheckpointError, match=r"state\.json: (can't be read|is not JSON|doesn't follow)"
    ):
        read_state(tmp_path)


def test_a_state_comes_back(tmp_path):
    state = {"step": 3, "best": {"step": 1, "psnr_db": 29.5}}
    save_checkpoint(tmp_path / "one", options=options_json(SMALL), tensors={}, state=state)
    assert read_state(tmp_path / "one") == state
    assert json.loads((tmp_path / "one" / STATE_FILE).read_text()) == state
