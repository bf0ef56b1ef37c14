"""Suite files: what is accepted, and one message that lists everything that is wrong."""

import pytest

from d2csr.core.errors import UsageError
from d2csr.suites.config import merge, read_suite
from tests.suites.conftest import write_suite


def test_sections_are_merged_but_a_network_is_replaced_whole():
    base = {"model": {"channels": 16}, "loss": {"alpha": {"alpha": 1}}, "stages": [1, 2], "seed": 3}
    changes = {"model": {"system": "edsr"}, "loss": {"alpha": {"alpha": 0}}, "stages": [4]}
    assert merge(base, changes) == {**changes, "seed": 3}
    assert merge({"loss": {"a": 1}}, {"loss": {"b": 2}}) == {"loss": {"a": 1, "b": 2}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sistems": {}}, r"line \d+: sistems: unknown key; the nearest known one is systems"),
        ({"systems": {"a": {"learning_rate": 1}}}, "the nearest known one is learning_rates"),
        ({"systems": {"a": {"trained": "bicubic", "recipe": {"seed": 1}}}}, "isn't trained here"),
        ({"systems": {"a": {"learning_rates": [1e-3, 1e-4]}}}, "rate_steps is needed"),
        ({"compare_to": "edsr"}, "no system is named edsr; choose of bicubic, d2c"),
        ({"seeds": [1, 1]}, "each once"),
        ({"protocols": ["luma"]}, "choose from y, rgb"),
        ({"systems": {"../evil": {}}}, "should match pattern"),
    ],
)
def test_errors_name_the_line_and_what_is_known(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        read_suite(write_suite(tmp_path, **changes))
