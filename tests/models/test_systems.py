"""The table of compared systems, and the networks that it builds."""

import json

import pytest
import torch

from d2csr.core.errors import UsageError
from d2csr.models.systems import SYSTEMS, build_system

NETWORKS = [name for name, spec in SYSTEMS.items() if spec.network is not None]


def meta(name: str, scale: int, size: str, **sizes):
    with torch.device("meta"):
        return build_system(name, scale=scale, size=size, **sizes)


# Of `systems/README.md`, per scale: computed from the public code at the papers' sizes.
PARAMETERS = {
    "srcnn": {2: 57_281, 3: 57_281, 4: 57_281},
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_paper_sizes_have_the_parameters_of_the_public_code(name: str):
    for scale, expected in PARAMETERS[name].items():
        network = meta(name, scale, "paper")
        assert sum(value.numel() for value in network.parameters()) == expected


def test_every_network_is_counted():
    assert list(PARAMETERS) == NETWORKS


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_every_small_network_enlarges_any_sides_at_every_scale(name: str):
    lr = torch.rand(1, 3, 7, 9)
    for scale in SYSTEMS[name].scales:
        network = build_system(name, scale=scale).eval()
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
@torch.no_grad()
def test_an_sr_pixel_depends_on_the_receptive_field_and_all_of_it(name: str):
    scale = SYSTEMS[name].scales[0]
    network = build_system(name, scale=scale).eval().double()
    reach = network.receptive_field
    if reach is None:
        pytest.skip("depends on the whole image")
    sides = (2 * reach + 3, 2 * reach + 5)
    lr = torch.rand(1, 3, *sides, dtype=torch.double)
    other, (row, column) = lr.clone(), (reach + 1, reach + 2)
    other[:, :, row, column] = 1 - other[:, :, row, column]
    changed = (network(lr) != network(other)).any(dim=1)[0].nonzero() // scale
    distances = torch.stack([changed[:, 0] - row, changed[:, 1] - column]).abs()
    assert distances.max() == reach


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
