"""Oracles of the compared networks: weights, inputs and outputs of other implementations."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor


class Oracle:
    """A file of `systems/`: public weights, inputs, outputs and facts."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            self.arrays = {
                name: torch.from_numpy(arrays[name]) for name in arrays if name != "facts"
            }
            self.facts = json.loads(str(arrays["facts"]))

    @property
    def weights(self) -> dict[str, Tensor]:
        start = "weight/"
        return {
            name.removeprefix(start): value
            for name, value in self.arrays.items()
            if name.startswith(start)
        }

    def __getitem__(self, name: str) -> Tensor:
        return self.arrays[name]

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each input with its output."""
        for suffix in ("", "_2"):
            if f"output{suffix}" in self.arrays:
                yield self.arrays[f"input{suffix}"], self.arrays[f"output{suffix}"]


@pytest.fixture(scope="session")
def oracle(data_folder: Path) -> Callable[[str], Oracle]:
    """Return a function from the name of a file to its contents."""
    return lambda name: Oracle(data_folder / "systems" / f"{name}.npz")


def assert_near(found: Tensor, expected: Tensor, *, relative: float = 1e-5) -> None:
    """Compare with a tolerance relative to the largest value."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= relative * expected.abs().max()
