"""The authors' checkpoints converted: their images come out, and no other file goes in."""

import json

import numpy as np
import pytest
import torch

from d2csr.checkpoint.io import load_network, save_weights
from d2csr.checkpoint.official import load_official
from d2csr.cli.app import main
from d2csr.core.errors import CheckpointError
from tests.checkpoint.conftest import authors_states
from tests.oracles import network as oracle

SCALES = [2, 3, 4, 8]


def swapped(images, axis):
    return np.flip(images, axis).copy()


@pytest.mark.parametrize("scale", SCALES)
@torch.no_grad()
def test_converted_network_gives_the_authors_images(data_folder, scale):
    network = load_official(data_folder / "official" / f"checkpoint_x{scale}.pkl")
    with np.load(data_folder / "official" / f"io_x{scale}.npz") as stored:
        found = network(torch.from_numpy(swapped(stored["lr_bgr"], 1)))
        predictions = swapped(stored["predictions_bgr"].swapaxes(0, 1), 2)
        sr = swapped(stored["sr_bgr"], 1)
    assert network.config.scale == scale
    for one, other in ((found.predictions.numpy(), predictions), (found.sr.numpy(), sr)):
        assert one.shape == other.shape
        assert np.abs(one - other).max() < 1e-4 * np.abs(other).max()


@pytest.mark.parametrize("scale", [2, 3, 4])
@torch.no_grad()
def test_collapsed_official_network_gives_the_same_images(data_folder, scale):
    network = load_official(data_folder / "official" / f"checkpoint_x{scale}.pkl")
    lr = torch.rand(1, 3, 5, 4)
    whole, short = network(lr).sr, network.collapse()(lr).sr
    assert (whole - short).abs().max() < 1e-5 * whole.abs().max()


@pytest.mark.parametrize(
    "sizes",
    [
        {"scale": 2, "channels": 32, "groups": 1, "blocks": 3},
        {"scale": 3, "channels": 16, "groups": 3, "blocks": 2, "width": 8},
        {"scale": 8, "channels": 48, "groups": 1, "blocks": 1},
    ],
)
@torch.no_grad()
def test_every_size_is_read_from_names_and_shapes(save, sizes):
    network = load_official(save(authors_states(**sizes)))
    config = network.config
    assert (config.scale, config.channels) == (sizes["scale"], sizes["channels"])
    assert (config.groups, config.blocks) == (sizes["groups"], sizes["blocks"])
    assert config.convergence_channels == sizes.get("width", 64)
    assert (config.depth, config.children, config.base) == (2, 2, "none")
    assert (config.mean, config.tail_border, config.convergence_last_relu) == (
        *("convolution", "each"),
        True,
    )


@torch.no_grad()
def test_rgb_through_the_converted_network_is_bgr_through_the_authors_weights(save):
    """Our numpy network, fed BGR images and the authors' own weights under our names."""
    states = authors_states(2)
    network = load_official(save(states)).double()
    lr = torch.rand(1, 3, 4, 5).double()
    found = network(lr)
    original = {name: value.numpy().copy() for name, value in network.state_dict().items()}
    theirs = {"sub_mean": "sub_mean", "add_mean": "add_mean"}
    for ours, name in theirs.items():
        original[f"divergence.{ours}.weight"] = states["state_dict_D"][f"{name}.weight"]
        original[f"divergence.{ours}.bias"] = states["state_dict_D"][f"{name}.bias"]
    fusion = states["state_dict_C"]["fusion_final.0.conv.weight"]
    original["convergence.convs.0.weight"] = fusion
    bgr = lr[0].flip(0).numpy()
    sr, predictions, weights = oracle.forward(bgr, original, network.config.to_dict())
    np.testing.assert_allclose(found.sr[0].flip(0).numpy(), sr, atol=1e-9)
    np.testing.assert_allclose(found.predictions[0].flip(1).numpy(), predictions, atol=1e-9)
    np.testing.assert_allclose(found.weights[0].numpy(), weights, atol=1e-9)


def test_a_saved_conversion_is_the_same_network(save, tmp_path):
    network = load_official(save(authors_states(4)))
    save_weights(network, tmp_path / "model.safetensors")
    again = load_network(tmp_path)
    assert again.config == network.config
    for name, value in network.state_dict().items():
        assert again.state_dict()[name].equal(value), name


def test_scale_is_checked_when_given(save):
    path = save(authors_states(3))
    assert load_official(path, scale=3).config.scale == 3
    with pytest.raises(CheckpointError, match=r"x3, not x4\. Leave the scale out"):
        load_official(path, scale=4)


def test_the_figure_that_old_checkpoints_carry_is_ignored(save):
    assert load_official(save(authors_states(2) | {"psnr": 29.72})).config.scale == 2


def without(states, name):
    del states["state_dict_D"][name]


def renamed(states, name, other):
    states["state_dict_D"][other] = states["state_dict_D"].pop(name)


def put(states, name, value):
    states["state_dict_D"][name] = value


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda s: without(s, "head.0.weight"), "head.0.weight"),
        (lambda s: without(s, "res_conv3.bias"), "res_conv3.bias is missing"),
        (lambda s: without(s, "body21.1.body.0.body.2.weight"), "is missing"),
        (lambda s: renamed(s, "tail22.1.bias", "tail33.1.bias"), "tail22.1.bias is missing"),
        (lambda s: put(s, "extra", np.ones(3, "f4")), "extra is not part of it"),
        (lambda s: put(s, "head.0.bias", np.ones(16, "f4")), "head.0.bias is of shape"),
        (lambda s: put(s, "add_mean.weight", np.ones((3, 4, 1, 1), "f4")), "add_mean.weight"),
        (lambda s: put(s, "head.0.weight", np.ones((0, 3, 3, 3), "f4")), "not an array of shape"),
        (lambda s: put(s, "head.0.weight", np.ones((7, 3, 3, 3), "f4")), "does not fit"),
        (lambda s: put(s, "head.0.weight", np.float32(1)), "names"),
        (lambda s: put(s, "head.0.weight", np.array(1, "f4")), "authors' networks"),
        (lambda s: put(s, "head.0.weight", 1.0), "not a dictionary of arrays"),
        (lambda s: put(s, "sub_mean.bias", np.full((1, 3, 1, 1), np.nan, "f4")), "infinite"),
        (lambda s: s.pop("state_dict_C"), "where state_dict_D and state_dict_C"),
        (lambda s: s.update(optimizer={}), "where state_dict_D and state_dict_C"),
        (lambda s: s.update(state_dict_C=None), "not a dictionary of arrays"),
        (lambda s: s["state_dict_C"].clear(), "fusion_final.0.conv.weight"),
        (lambda s: s["state_dict_D"].clear(), "head.0.weight"),
    ],
)
def test_files_that_are_no_such_checkpoint_are_refused(save, damage, match):
    states = authors_states(2)
    damage(states)
    with pytest.raises(CheckpointError, match=match):
        load_official(save(states))


@pytest.mark.parametrize("value", [{}, (), 1.0, {"state_dict_D": {}, "state_dict_C": {}}])
def test_pickles_of_something_else_are_refused(save, value):
    with pytest.raises(CheckpointError):
        load_official(save(value))


def test_sizes_that_only_a_name_claims_allocate_nothing(save):
    """A million blocks or channels would be built before they were missed."""
    states = authors_states(2)
    states["state_dict_D"]["head.0.weight"] = np.ones((200_000, 3, 3, 3), "f4")
    states["state_dict_D"]["tail11.0.0.weight"] = np.ones((800_000, 1, 1, 1), "f4")
    with pytest.raises(CheckpointError, match="channels 200000 is more than 1024"):
        load_official(save(states))


def test_command_writes_a_bundle_that_the_engine_and_torch_agree_on(save, tmp_path, capsys):
    from d2csr.engine.model import load

    path = save(authors_states(2))
    assert main(["convert", "official", str(path), "-o", str(tmp_path / "out"), "-s", "2"]) == 0
    assert "x2" in capsys.readouterr().out
    card = json.loads((tmp_path / "out" / "bundle.json").read_text())
    assert card["scale"] == 2
    rgb8 = np.random.default_rng(1).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    lr = torch.from_numpy(rgb8.transpose(2, 0, 1)[None].copy()).float() / 255
    with torch.no_grad():
        sr = load_network(tmp_path / "out")(lr).sr[0].numpy().transpose(1, 2, 0)
    expected = np.rint(sr.clip(0, 1) * 255)
    found = load(tmp_path / "out").upscale(rgb8)
    assert found.shape == (18, 24, 3)
    assert np.abs(found - expected).max() <= 1


def test_command_reports_a_hostile_file_in_one_line(save, tmp_path, capsys):
    path = save({"state_dict_D": print, "state_dict_C": {}})
    assert main(["convert", "official", str(path), "-o", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {path}: ")
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
