"""Hostile YAML is refused with an error, within 2 s and 300 MB, whichever settings it is for."""

import pytest

from d2csr.core.errors import RecipeError
from d2csr.core.yaml_config import ConfigBase, read_settings
from tests.budget import assert_refused_within_budget

_TEN = ", ".join("*{0}" for _ in range(10))


def _bomb(merge: str) -> str:
    """Return nine lines, each of which stands for ten times the one before."""
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, 9):
        parts = _TEN.format(f"a{level - 1}")
        lines.append(f"a{level}: &a{level} {{{merge}: [{parts}]}}")
    return "\n".join(lines)


HOSTILE = {
    "merge-bomb": _bomb("<<"),
    "alias-bomb": _bomb("x"),
    "itself": "a: &a [*a]",
    "merges-itself": "a: &a {<<: *a}",
    "brackets": "a: " + "[" * 60_000,
    "dashes": "- " * 30_000,
    "maps": "".join(" " * level + "a:\n" for level in range(340)),
    "keys": "name: a\nmodel:\n" + "".join(f" k{index}: 0\n" for index in range(7000)),
    "top-keys": "".join(f"k{index}: 0\n" for index in range(7000)),
    "long-key": "k" * 60_000 + ": 1",
    "digits": "name: a\nseed: " + "9" * 5000,
    "hexadecimal": "name: a\nseed: 0x" + "f" * 60_000,
    "sexagesimal": "name: a\nseed: 1" + ":1" * 20_000,
    "no-date": "name: 2024-02-30",
    "no-number": 'name: !!int ""',
    "no-time": "name: !!timestamp x",
    "no-truth": "name: !!bool x",
    "infinite": "name: a\nstages: [{kind: joint, steps: 1, learning_rate: .inf}]",
    "nan": "name: a\nloss: {branch_weight: .nan}",
    "deep-tree": "name: a\ndata: {train: a}\nmodel: {scale: 2, depth: 1000000000}\nstages: []",
    "wide-tree": "name: a\ndata: {train: a}\nmodel: {scale: 2, children: 1000000000}\nstages: []",
    "blocks": "name: a\ndata: {train: a}\nmodel: {scale: 2, blocks: 1000000000}\nstages: []",
    "list-key": "? [a]\n: 1",
    "object": "name: !!python/object/apply:os.system [true]",
    "control": "name: \x00",
    "bytes": "name: \udcff",
    "too-long": "# " + "a" * 100_000,
    "empty": "",
    "list": "- 1",
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("reader", ["training.recipe:read_recipe"])
def test_hostile_settings_are_refused_within_the_budget(tmp_path, reader):
    """A merge bomb of nine lines took over 1.8 GB, 60 KB of brackets ended in RecursionError."""
    files = []
    for name, text in HOSTILE.items():
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_bytes(text.encode(errors="surrogateescape"))
    module, function = reader.split(":")
    imports = f"from d2csr.{module} import {function}"
    assert_refused_within_budget(files, imports=imports, call=f"{function}(path)")


class _Settings(ConfigBase):
    parts: tuple[dict[str, float], ...]


def read(path, text):
    path.write_text(text)
    return read_settings(path, _Settings, error_type=RecipeError, remedy="")


def test_aliases_and_merges_of_a_sane_size_are_read(tmp_path):
    text = "parts: [&one {a: 1, b: 2.5}, *one, {<<: *one, b: 3}]"
    assert read(tmp_path / "x.yaml", text).parts == (
        {"a": 1.0, "b": 2.5},
        {"a": 1.0, "b": 2.5},
        {"a": 1.0, "b": 3.0},
    )


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "2024-02-30", "9" * 5000, "1e400"])
def test_a_value_that_is_none_is_named_with_its_line(tmp_path, value):
    with pytest.raises(RecipeError, match=r"line 2|parts\.0\.a"):
        read(tmp_path / "x.yaml", f"parts:\n- a: {value}")
