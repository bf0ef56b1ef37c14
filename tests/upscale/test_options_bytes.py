"""Amounts of memory as people write them."""

import pytest

from d2csr.core.errors import UsageError
from d2csr.upscale.options import parse_bytes


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4GiB", 4 * 1024**3),
        ("500MB", 500_000_000),
        ("1048576", 1 << 20),
        ("1.5 gib", 3 * 1024**3 // 2),
        ("2k", 2000),
        ("3G", 3_000_000_000),
    ],
)
def test_amounts(text: str, count: int):
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "much", "-4GB", "0", "4 apples", "IB", "4iB"])
def test_what_is_no_amount_is_refused(text: str):
    with pytest.raises(UsageError, match="is not an amount of memory"):
        parse_bytes(text)
