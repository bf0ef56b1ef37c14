"""Checkpoints as the authors' trainer would save them, without its framework."""

import collections
import pickle

import numpy as np
import pytest

LEAVES = ("11", "12", "21", "22")


def authors_states(scale, *, channels=16, groups=2, blocks=1, width=64):
    """Return both state dicts with random values, written down from the authors' model file."""
    random = np.random.default_rng(0)
    tree, fusion = collections.OrderedDict(), collections.OrderedDict()

    def conv(name, inputs, outputs, size=3):
        tree[f"{name}.weight"] = 0.1 * random.standard_normal((outputs, inputs, size, size), "f4")
        tree[f"{name}.bias"] = 0.1 * random.standard_normal((1, outputs, 1, 1), "f4")

    conv("sub_mean", 3, 3, 1)
    conv("add_mean", 3, 3, 1)
    conv("head.0", 3, channels)
    for body in ("1", "2", *LEAVES):
        for group in range(groups):
            for block in range(blocks):
                place = f"body{body}.{group}.body.{block}.body"
                conv(f"{place}.0", channels, channels)
                conv(f"{place}.2", channels, channels)
                conv(f"{place}.3.conv_du.0", channels, channels // 16, 1)
                conv(f"{place}.3.conv_du.2", channels // 16, channels, 1)
            conv(f"body{body}.{group}.body.{blocks}", channels, channels)
        conv(f"body{body}.{groups}", channels, channels)
    for index in range(1, 9):
        conv(f"res_conv{index}", channels, channels)
    for leaf in LEAVES:
        for stage, factor in enumerate({2: [2], 3: [3], 4: [2, 2], 8: [2, 2, 2]}[scale]):
            conv(f"tail{leaf}.0.{2 * stage}", channels, channels * factor**2)
        conv(f"tail{leaf}.1", channels, 3)
    for index, (inputs, outputs) in enumerate([(12, width), (width, width), (width, 4)]):
        shape = (outputs, inputs, 3, 3)
        fusion[f"fusion_final.{index}.conv.weight"] = 0.1 * random.standard_normal(shape, "f4")
    return {"state_dict_D": tree, "state_dict_C": fusion}


@pytest.fixture
def save(tmp_path):
    """Return a function that pickles what it is given and returns the file."""

    def write(value, name="checkpoint.pkl"):
        path = tmp_path / name
        path.write_bytes(pickle.dumps(value, protocol=4))
        return path

    return write
