"""The configuration of a compared system on a card: what comes back, and what is refused."""

import json

import pytest

from d2csr.core.errors import D2csrError
from d2csr.core.system_config import SystemConfig

EDSR = SystemConfig(
    system="edsr",
    scale=3,
    sizes={"features": 8, "code": [0.5, 1.0], "form": "basic", "bias": True},
    receptive_field_lr_px=20,
    row_multiple=2,
    values_per_lr_px=579.5,
    gflop_per_lr_mp=1.5,
)


def test_a_configuration_comes_back_from_json():
    assert SystemConfig.from_dict(json.loads(json.dumps(EDSR.to_dict()))) == EDSR


def test_all_of_the_receptive_field_is_the_tails():
    assert EDSR.receptive_field.halo_lr_rows == EDSR.receptive_field.tail_lr_px == 20
    assert EDSR.receptive_field.trunk_lr_px == 0
    whole = SystemConfig.from_dict(EDSR.to_dict() | {"receptive_field_lr_px": None})
    assert whole.receptive_field.trunk_lr_px is None


WRONG = {
    "system": ["", 3, "a" * 101, "a\nb"],
    "scale": [0, 9, 2.0, True, "2"],
    "sizes": [[], {"": 1}, {"a": {}}, {"a": [[[[1]]]]}, {"a": float("nan")}],
    "receptive_field_lr_px": [-1, 1.5, 1 << 30],
    "row_multiple": [0, None],
    "values_per_lr_px": [0, -1.0, float("nan"), float("inf"), "1"],
    "gflop_per_lr_mp": [0, None],
}


@pytest.mark.parametrize("name", WRONG)
def test_a_value_that_no_network_has_is_refused_by_its_name(name: str):
    for value in WRONG[name]:
        with pytest.raises(D2csrError, match=name):
            SystemConfig.from_dict(EDSR.to_dict() | {name: value})


def test_unknown_and_missing_settings_are_refused():
    with pytest.raises(D2csrError, match=r"unknown settings .*width"):
        SystemConfig.from_dict(EDSR.to_dict() | {"width": 3})
    values = EDSR.to_dict()
    del values["sizes"]
    with pytest.raises(D2csrError, match="has no sizes"):
        SystemConfig.from_dict(values)
