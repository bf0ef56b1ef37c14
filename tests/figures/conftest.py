"""A suite of random networks under the names that the paper's figures show, and tiny pairs."""

from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from d2csr.suites.config import read_suite
from d2csr.suites.plan import check_suite
from d2csr.suites.trial import run_trial
from tests.suites.conftest import suite_values
from tests.tiny_models import tiny_bundle
from tests.training.conftest import SCALE, write_pairs

NAMES = (
    "d2c-sr", "without-triplet", "strong-triplet", "without-absolute", "without-deep-residual",
)  # fmt: skip


class Material(NamedTuple):
    """Folders of a suite that ran, and of data."""

    suite: Path
    data: Path
    bundle: Path


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Return the folders; of the pairs, one set is named as one of the paper's."""
    folder = tmp_path_factory.mktemp("paper")
    first = tiny_bundle(folder / "first").folder
    second = tiny_bundle(folder / "second", convergence_channels=0).folder
    write_pairs(folder / "sets" / "RealSR" / "test", count=2)
    systems = {
        name: {"trained": str(second if name.startswith("without") else first)} for name in NAMES
    }
    data = {"scale": SCALE, "test": {"set5": str(folder / "sets" / "RealSR")}}
    values = suite_values(folder, systems=systems, data={"made": data}, compare_to="d2c-sr")
    out = folder / "out"
    out.mkdir()
    (out / "suite.yaml").write_text(yaml.safe_dump(values))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("D2CSR_CACHE", str(folder / "cache"))
        for trial in check_suite(read_suite(out), file=out / "suite.yaml", out=out):
            assert run_trial(trial)
    return Material(out, folder / "sets", first)
