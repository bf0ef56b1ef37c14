"""Names in weight files promise little: each file is refused within 2 s and 300 MB."""

import json
import pickle
import struct
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from tests.budget import assert_refused_within_budget
from tests.checkpoint.conftest import authors_states

ONE = np.ones((1, 1, 1, 1), np.float32)


def weights_file(path: Path, names: dict[str, list[int]]) -> Path:
    """Write a safetensors file whose tensors have names and shapes, but no data."""
    fields = {"dtype": "F32", "data_offsets": [0, 0]}
    header = {name: {**fields, "shape": shape} for name, shape in names.items()}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return path


def promised(groups: int, blocks: int) -> dict[str, list[int]]:
    """Return names that promise a network of so many groups and blocks, without data."""
    names = {
        "divergence.head.weight": [16, 3, 3, 0],
        "divergence.tails.0.conv.weight": [12, 16, 5, 0],
        "convergence.convs.0.weight": [16, 12, 3, 0],
    }
    names |= {f"divergence.branches.{path}.groups.0.a": [0] for path in ("1", "0-0", "0-1", "1-0")}
    names |= {f"divergence.branches.0.groups.{index}.a": [0] for index in range(groups)}
    return names | {f"divergence.branches.0.groups.0.blocks.{n}.a": [0] for n in range(blocks)}


@pytest.mark.timeout(120)
def test_hostile_safetensors_are_refused_within_the_budget(tmp_path):
    """300 x 300 blocks without data took 45 s and 1.6 GB."""
    files = [
        weights_file(tmp_path / "square", promised(300, 300)),
        weights_file(tmp_path / "small-square", promised(20, 20)),
        weights_file(tmp_path / "long", promised(1, 20_000)),
        weights_file(tmp_path / "deep", {f"divergence.branches.{'0-' * 4000}0.a": [0]}),
        weights_file(tmp_path / "many", {f"{index}": [0] for index in range(60_000)}),
        weights_file(tmp_path / "header", {f"{index:060}": [0] for index in range(300_000)}),
        weights_file(tmp_path / "wide", promised(1, 1) | {"divergence.head.weight": [10**9, 0]}),
        weights_file(tmp_path / "name", {"x" * 3_000_000: [0]}),
    ]
    (tmp_path / "claim").write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
    files.append(tmp_path / "claim")
    imports = "from d2csr.checkpoint.io import load_weights"
    assert_refused_within_budget(files, imports=imports, call="load_weights(path)")


def hostile_states() -> dict[str, object]:
    """Return pickled values that are no network, by name."""
    sane = authors_states(2)
    tree, fusion = sane["state_dict_D"], sane["state_dict_C"]
    square = [f"body1.{n}.body.a" for n in range(70)] + [f"body1.0.body.{n}.a" for n in range(70)]
    long = [f"body1.{n}.body.a" for n in range(3000)]
    long += [f"body1.0.body.{n}.a" for n in range(3000)]
    shared = np.ones(1_000_000, np.float16)
    return {
        "square": {**sane, "state_dict_D": {**tree, **{name: ONE.copy() for name in square}}},
        "long": {**sane, "state_dict_D": {**tree, **{name: ONE.copy() for name in long}}},
        "shared": {**sane, "state_dict_D": {**tree, **{str(n): shared for n in range(20_000)}}},
        "name": {**sane, "state_dict_D": {**tree, "x" * 5_000_000: ONE}},
        "key": {"x" * 5_000_000: tree, "state_dict_C": fusion},
        "tails": {
            **sane,
            "state_dict_D": {
                **tree,
                **{f"tail11.0.{n}.weight": np.ones((4096, 1), "f4") for n in range(3, 3000)},
            },
        },
        "nested": OrderedDict(state_dict_D=tree, state_dict_C={"a": ((((ONE,),),),)}),
    }


@pytest.mark.timeout(120)
def test_hostile_pickles_are_refused_within_the_budget(tmp_path):
    """3,000 groups and blocks in 130 KB took 39 s and 7.2 GB."""
    programs = {name: pickle.dumps(value, protocol=4) for name, value in hostile_states().items()}
    programs["names"] = b"\x80\x04c" + b"a" * 5_000_000 + b"\nb\n."
    programs["opcodes"] = b"\x80\x04" + b"}" * 3_000_000 + b"."
    programs["marks"] = b"\x80\x04" + b"(" * 3_000_000 + b"."
    files = []
    for name, program in programs.items():
        files.append(tmp_path / name)
        files[-1].write_bytes(program)
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(1 << 40)
    files.append(tmp_path / "hole")
    imports = "from d2csr.checkpoint.official import load_official"
    assert_refused_within_budget(files, imports=imports, call="load_official(path)")
