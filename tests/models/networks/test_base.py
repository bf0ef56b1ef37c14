"""The common outside of the compared networks, and what reading public weights refuses."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from d2csr.core.errors import D2csrError
from d2csr.metrics.protocols import LUMA
from d2csr.models.networks.base import SystemNetwork
from d2csr.models.networks.plain import SRCNN
from d2csr.models.networks.public_weights import unwrap_state
from d2csr.models.systems import SYSTEMS
from tests.oracles import network as oracle_network


class Doubled(SystemNetwork):
    """Doubles each pixel, in 0..255, on sides that are multiples of 4; nothing else."""

    value_range = 255
    side_multiple = 4

    def __init__(self, scale: int) -> None:
        super().__init__(scale, {})

    def native(self, x):
        assert x.shape[2] % 4 == 0
        assert x.shape[3] % 4 == 0
        self.seen = x
        return F.interpolate(x, scale_factor=self.scale, mode="nearest")


def test_forward_pads_to_the_multiple_in_the_range_of_the_network_and_cuts():
    lr, network = torch.rand(2, 3, 5, 8), Doubled(3)
    sr = network(lr)
    torch.testing.assert_close(sr, lr.repeat_interleave(3, 2).repeat_interleave(3, 3))
    assert network.seen.shape == (2, 3, 8, 8)
    torch.testing.assert_close(network.seen[:, :, :5], 255 * lr)
    torch.testing.assert_close(network.seen[:, :, 7], 255 * lr[:, :, 4])


def test_a_network_on_luma_keeps_the_color_of_the_bicubic_enlargement():
    """Against MATLAB's formulas: RGB to YCbCr, Y replaced, back to RGB, in numpy."""
    lr = torch.rand(1, 3, 4, 5)
    network = SRCNN(2, features=[4, 3]).eval()
    with torch.no_grad():
        sr = network(lr)[0].double().numpy()
    bicubic = oracle_network.bicubic(lr[0].double().numpy(), 2)
    matrix = np.array(
        [[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]
    )
    assert tuple(matrix[0] / 255) == LUMA[0]
    ycbcr = np.einsum("kc,chw->khw", matrix, bicubic) + np.array([16, 128, 128]).reshape(3, 1, 1)
    with torch.no_grad():
        y = network.native(torch.from_numpy(ycbcr[:1] / 255).float()[None])[0].double().numpy()
    ycbcr[0] = 255 * y[0]
    offset = np.array([16, 128, 128]).reshape(3, 1, 1)
    expected = np.einsum("kc,chw->khw", np.linalg.inv(matrix), ycbcr - offset)
    np.testing.assert_allclose(sr, expected, atol=2e-5)


class Quartered(Doubled):
    """The same on the enlargement, plus the bicubic enlargement outside."""

    takes = "enlarged"
    adds_bicubic = True

    def native(self, x):
        assert x.shape[2] % 4 == 0
        assert x.shape[3] % 4 == 0
        return 3 * x


def test_an_enlarged_input_is_padded_on_its_own_grid():
    lr, network = torch.rand(1, 3, 3, 5), Quartered(2)
    bicubic = torch.from_numpy(oracle_network.bicubic(lr[0].double().numpy(), 2))[None].float()
    torch.testing.assert_close(network(lr), 4 * bicubic, atol=1e-5, rtol=1e-5)
    (output,) = network.training_outputs(lr)
    torch.testing.assert_close(output, 4 * bicubic, atol=1e-5, rtol=1e-5)


def test_training_compares_luma_with_luma():
    network, lr, hr = SRCNN(2, features=[4, 3]), torch.rand(1, 3, 4, 4), torch.rand(1, 3, 8, 8)
    (output,) = network.training_outputs(lr)
    assert output.shape == network.training_target(hr).shape == (1, 1, 8, 8)


def srcnn_weights() -> dict[str, torch.Tensor]:
    shapes = {"conv1": (8, 1, 9, 9), "conv2": (4, 8, 5, 5), "conv3": (1, 4, 5, 5)}
    return {
        f"{name}.{kind}": torch.rand(shape if kind == "weight" else shape[:1])
        for name, shape in shapes.items()
        for kind in ("weight", "bias")
    }


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"params": {"a": torch.ones(1)}, "params_ema": state},
        lambda state: {"params": state},
        lambda state: {"epoch": 3, "state_dict": {f"module.{name}": state[name] for name in state}},
    ],
)
def test_wrapped_weights_are_unwrapped(wrap):
    state = srcnn_weights()
    assert unwrap_state(wrap(state), where="file.pth").keys() == state.keys()


@pytest.mark.parametrize("loaded", [None, {}, [1], {"epoch": 3}, {"state_dict": {}}, {1: "a"}])
def test_a_file_without_weights_is_refused_by_its_name(loaded):
    with pytest.raises(D2csrError, match=r"file\.pth: "):
        unwrap_state(loaded, where="file.pth")


HOSTILE = {
    "missing": (lambda state: state.pop("conv2.bias"), "conv2.bias is missing"),
    "left over": (lambda state: state.update({"conv4.bias": torch.ones(1)}), "conv4.bias"),
    "other shape": (lambda state: state.update({"conv2.bias": torch.ones(3)}), r"\[3\], not \[4\]"),
    "other rank": (lambda state: state.update({"conv1.weight": torch.ones(3)}), "not 4 dimensions"),
    "not finite": (lambda state: state["conv1.bias"].fill_(torch.nan), "infinite or not numbers"),
    "whole numbers": (lambda state: state.update({"conv1.bias": torch.ones(8).int()}), "int32"),
    "larger than its memory": (
        lambda state: state.update({"conv1.weight": torch.ones(1).expand(10**7, 1, 9, 9)}),
        "repeats a small memory",
    ),
    "empty": (lambda state: state.clear(), "conv1.weight is missing"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_weights_that_do_not_fit_are_refused(kind):
    state, (change, message) = srcnn_weights(), HOSTILE[kind]
    change(state)
    with pytest.raises(D2csrError, match=message) as caught:
        SRCNN.from_public(state, where="file.pth", scale=2)
    assert str(caught.value).startswith("file.pth: ")
    assert "\n" not in str(caught.value)


def promising(name: str) -> dict[str, torch.Tensor]:
    """Return weights whose names or shapes promise far more than they hold."""
    one = torch.ones(1, 1, 1, 1)
    if name == "rcan":  # groups x blocks
        groups = {f"body.{index}.body.0.body.0.weight": one for index in range(3000)}
        blocks = {f"body.0.body.{index}.body.0.weight": one for index in range(3000)}
        return {**groups, **blocks, "head.0.weight": torch.ones(64, 3, 3, 3)}
    if name == "rdn":
        blocks = {f"RDBs.{index}.LFF.weight": one for index in range(3000)}
        layers = {f"RDBs.0.convs.{index}.conv.0.weight": one for index in range(3000)}
        return {**blocks, **layers, "SFENet1.weight": one}
    if name == "memnet":
        blocks = {f"dense_memory.{index}.gate_unit.conv.weight": one for index in range(3000)}
        unit = "dense_memory.0.recursive_unit.{}.relu_conv1.conv.weight"
        units = {unit.format(index): one for index in range(3000)}
        return {**blocks, **units, "feature_extractor.conv.weight": one}
    if name == "dbpn":
        heads = {"feat0.conv.weight": torch.ones(8, 3, 3, 3), "feat1.conv.weight": one}
        unit = "up{}.up_conv1.deconv.weight"
        return {**heads, **{unit.format(index): one for index in range(1, 3000)}}
    if name == "vdsr":
        return {f"residual_layer.{index}.conv.weight": one for index in range(20_000)}
    if name == "edsr":  # the squares of a width
        return {"head.0.weight": torch.ones(100_000, 3, 3, 3), "body.0.body.0.weight": one}
    return {"conv1.weight": torch.ones(1).expand(2**40, 1, 9, 9)}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["rcan", "rdn", "memnet", "dbpn", "vdsr", "edsr", "srcnn"])
def test_what_a_file_promises_is_compared_before_it_is_built(name: str):
    network = SYSTEMS[name].network
    options = dict.fromkeys(network.unreadable, 2)
    with pytest.raises(D2csrError, match=r"^file\.pth: "):
        network.from_public(promising(name), where="file.pth", **options)


OPTIONS = {
    "missing": ({}, r"scale can't be read from the weights\. Give scale=2"),
    "unknown": ({"scale": 2, "feature": [8, 4]}, "there is no option 'feature'; .* is features"),
    "contradiction": ({"scale": 2, "features": [9, 4]}, r"features=\[8, 4\], not \[9, 4\]"),
    "no scale of its": ({"scale": 5}, r"scale 5 is none of its scales\. Choose among 2, 3, 4, 8"),
    "no number": ({"scale": 2, "kernels": "9"}, "kernels='9' is not possible"),
    "no choice": ({"scale": 2, "channels": 2}, "channels=2 is not possible. Choose among 1, 3"),
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_options_that_do_not_fit_are_refused(kind):
    options, message = OPTIONS[kind]
    with pytest.raises(D2csrError, match=message):
        SRCNN.from_public(srcnn_weights(), where="file.pth", **options)


def test_batch_counters_of_public_weights_are_ignored():
    state = srcnn_weights() | {"bn.num_batches_tracked": torch.tensor(5)}
    assert isinstance(SRCNN.from_public(state, scale=2), nn.Module)
