"""The table of compared systems, and the networks that it builds."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

import d2csr
from d2csr.core.bundle import read_bundle
from d2csr.core.errors import UsageError
from d2csr.core.network_cost import network_cost
from d2csr.models.d2csr import D2CSR
from d2csr.models.systems import SYSTEMS, build_system
from tests.tiny_systems import TINY

SHIPPED = Path(d2csr.__file__).parent / "weights" / "city100-nikon-x3"
D2CSR_16 = read_bundle(SHIPPED).card.config
NETWORKS = [name for name, spec in SYSTEMS.items() if spec.network is not None]


def meta(name: str, scale: int, size: str, **sizes):
    with torch.device("meta"):
        return build_system(name, scale=scale, size=size, **sizes)


# Of `systems/README.md`, per scale: computed from the public code at the papers' sizes.
PARAMETERS = {
    "srcnn": {2: 57_281, 3: 57_281, 4: 57_281},
    "fsrcnn": {2: 12_809, 3: 12_809, 4: 12_809},
    "vdsr": {2: 665_921, 3: 665_921, 4: 665_921},
    "lapsrn": {2: 407_441, 3: 814_242, 4: 814_242, 8: 1_221_043},
    "drcn": {2: 1_775_121, 3: 1_775_121, 4: 1_775_121},
    "memnet": {2: 2_911_177, 3: 2_911_177, 4: 2_911_177},
    "srresnet": {2: 1_399_637, 4: 1_547_350},
    "msrresnet": {2: 1_369_859, 3: 1_554_499, 4: 1_517_571},
    "edsr": {2: 40_729_627, 3: 43_680_027, 4: 43_089_947},
    "rcan": {2: 15_444_667, 3: 15_629_307, 4: 15_592_379},
    "rdn": {2: 22_123_395, 3: 22_308_035, 4: 22_271_107},
    "dbpn": {2: 5_953_526, 4: 10_426_358, 8: 23_205_878},
    "srmdnf": {2: 1_510_540, 3: 1_527_835, 4: 1_552_048},
    "rrdbnet": {2: 16_703_171, 4: 16_697_987},
    "srflow": {4: 39_541_811},
    "lpkpn": {2: 1_430_539, 3: 1_430_539, 4: 1_430_539},
    "cdc": {2: 39_698_962, 3: 39_703_570, 4: 39_920_530},
    "srvgg": {2: 600_652, 4: 621_424},
    "span": {
        4: 2_236_728 - 396_240
    },  # as it is trained, without the merged copies of the public code
    "safmn": {2: 227_820, 3: 232_695, 4: 239_520},
}
# Other networks that the same classes build: system, scale, what differs from `paper`, parameters.
VARIANTS = {
    "SRCNN on RGB": ("srcnn", 2, {"channels": 3}, 69_251),
    "VDSR without biases": ("vdsr", 2, {"bias": False}, 664_704),
    "LapSRN of twtygqyy": ("lapsrn", 4, {"upsampler": 4, "bias": False}, 870_112),
    "MemNet basic": ("memnet", 2, {"form": "basic"}, 2_905_474),
    "EDSR baseline": ("edsr", 3, {"features": 64, "blocks": 16}, 1_554_523),
    "RCAN of BasicSR's default": ("rcan", 4, {"blocks": 16}, 12_614_915 + 24),
    "DBPN-LL x2": ("dbpn", 2, {"units": 10}, 8_811_086),
    "DBPN-LL x4": ("dbpn", 4, {"units": 10}, 15_348_302),
    "SRVGGNetCompact 64x32": ("srvgg", 4, {"middle": 32}, 1_213_296),
    "SPAN merged x2": ("span", 2, {"merged": True}, 410_700),
    "SPAN merged x4": ("span", 4, {"merged": True}, 426_288),
    "SPAN of 52 channels x2": ("span", 2, {"merged": True, "features": 52}, 481_324),
    "SPAN of 52 channels x4": ("span", 4, {"merged": True, "features": 52}, 498_208),
    "SRMD": ("srmdnf", 3, {"noise": True}, 1_528_987),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_paper_sizes_have_the_parameters_of_the_public_code(name: str):
    for scale, expected in PARAMETERS[name].items():
        network = meta(name, scale, "paper")
        assert sum(value.numel() for value in network.parameters()) == expected


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_have_the_parameters_of_their_public_code(name: str):
    system, scale, sizes, expected = VARIANTS[name]
    network = meta(system, scale, "paper", **sizes)
    assert sum(value.numel() for value in network.parameters()) == expected


def test_every_network_is_counted():
    assert list(PARAMETERS) == NETWORKS


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_every_network_enlarges_any_sides_at_every_scale(name: str):
    lr = torch.rand(1, 3, 7, 9)
    for scale in SYSTEMS[name].scales:
        network = build_system(name, scale=scale, **TINY[name]).eval()
        sr = network(lr)
        assert sr.shape == (1, 3, 7 * scale, 9 * scale)
        assert sr.isfinite().all()


@pytest.mark.parametrize("name", NETWORKS)
def test_sizes_are_json_and_rebuild_the_network(name: str):
    network = meta(name, SYSTEMS[name].scales[0], "small")
    sizes = json.loads(json.dumps(network.sizes))
    with torch.device("meta"):
        again = type(network)(network.scale, **sizes)
    assert {key: value.shape for key, value in again.state_dict().items()} == {
        key: value.shape for key, value in network.state_dict().items()
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_an_sr_pixel_depends_on_the_receptive_field_and_all_of_it(name: str, monkeypatch):
    monkeypatch.setattr("torch.nn.functional.max_pool2d", F.avg_pool2d)  # it sees all it pools
    for scale in SYSTEMS[name].scales[:2]:
        network = build_system(name, scale=scale, **TINY[name]).eval().double()
        with torch.no_grad():
            for value in network.parameters():  # none is 0, such as those of DRCN's identity
                value.add_(0.02 * torch.randn_like(value))
        if network.receptive_field is not None:
            for axis in (2, 3):
                assert seen_px(network, axis) == network.receptive_field


def seen_px(network: torch.nn.Module, axis: int) -> int:
    """Return the LR pixels on one side, along one axis, that an SR pixel has a gradient from."""
    reach, scale, multiple = network.receptive_field, network.scale, network.side_multiple
    period = math.lcm(multiple, scale) // scale if network.takes == "enlarged" else multiple
    first = -(-(reach + 1) // period) * period  # the first row of a period, far from the border
    sides = {2: 16, 3: 16, axis: first + reach + 1 + period}
    lr = torch.rand(1, 3, sides[2], sides[3], dtype=torch.double, requires_grad=True)
    sr = network(lr)
    farthest = 0
    for own in {first, first + 1, first + period - 1}:
        rows = sr.narrow(axis, own * scale, scale)
        (gradient,) = torch.autograd.grad(rows.sum(), lr, retain_graph=True)
        seen = gradient.abs().sum(dim=(0, 1, 5 - axis)).nonzero()
        farthest = max(farthest, int((seen - own).abs().max()))
    return farthest


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_small_networks_need_the_operations_of_the_16_channel_d2csr(name: str):
    """Per LR pixel, at x3 or else x4; a multiply-add counts as 2."""
    scale = 3 if 3 in SYSTEMS[name].scales else 4
    reference = network_cost(replace(D2CSR_16, scale=scale), collapsed=True).gflop_per_lr_mp
    network = build_system(name, scale=scale).for_inference()
    assert operations(network) == pytest.approx(reference, rel=0.1)


def test_the_operations_are_counted_as_for_d2csr():
    reference = network_cost(D2CSR_16, collapsed=True).gflop_per_lr_mp
    assert operations(D2CSR(D2CSR_16)) == pytest.approx(reference, rel=1e-3)


def operations(network: torch.nn.Module, side_px: int = 32) -> float:
    """Return the operations that torch counts, in 1e9 per million LR pixels."""
    with FlopCounterMode(display=False) as counter:
        network.eval()(torch.rand(1, 3, side_px, side_px))
    return counter.get_total_flops() / side_px**2 / 1e3


UNKNOWN = {
    "system": (("srcn", {"scale": 2}), "system: there is no system 'srcn'; the nearest is srcnn"),
    "size": (("srcnn", {"scale": 2, "size": "papers"}), "no size 'papers'; the nearest is paper"),
    "scale": (("srcnn", {"scale": 7}), "system srcnn: scale 7 is none of its scales"),
    "option": (("srcnn", {"scale": 2, "widths": 3}), "system srcnn: there is no option 'widths'"),
    "value": (("srcnn", {"scale": 2, "features": [0, 3]}), r"features=\[0, 3\] is not possible"),
    "no network": (("bicubic", {"scale": 2}), "system bicubic: it is no network of this table"),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_does_not_exist_fails_with_the_nearest_that_does(kind: str):
    (name, options), message = UNKNOWN[kind]
    with pytest.raises(UsageError, match=message) as caught:
        build_system(name, **options)
    assert str(caught.value).count("\n") == 0
