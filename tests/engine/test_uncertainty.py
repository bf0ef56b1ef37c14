"""The uncertainty map: the same in strips as at once, and only with an error model."""

from dataclasses import replace

import numpy as np
import pytest

from d2csr.core.bundle import Bundle, read_bundle, verify_bundle
from d2csr.core.error_model import write_calibrated_bundle
from d2csr.core.errors import BundleError, UsageError
from d2csr.core.files import sha256_file
from d2csr.engine.model import load
from d2csr.engine.tail import EngineOutput, StripOutput
from d2csr.engine.uncertainty import (
    UncertaintyStream,
    enlarge_linear,
    require_error_model,
    uncertainty_map,
)
from tests.engine.test_uncertainty_features import SCALE, random_output
from tests.error_models import FACTS, random_error_model

LR8 = np.random.default_rng(0).integers(0, 256, (30, 24, 3), dtype=np.uint8)


@pytest.mark.parametrize("strip_rows", [1, 2, 7, 9, 19])
def test_a_map_in_strips_is_the_map_at_once(strip_rows: int):
    lr01, output = random_output(20, 17)
    whole = uncertainty_map(random_error_model(), lr01, output=output, scale=SCALE)
    stream = UncertaintyStream(random_error_model(), lr01, scale=SCALE)
    parts = []
    for first in range(0, 20, strip_rows):
        rows = slice(first * SCALE, min(20, first + strip_rows) * SCALE)
        part = EngineOutput(output.sr[rows], output.predictions[:, rows], output.weights[:, rows])
        parts += list(stream.add(StripOutput(rows.start, part)))
    assert np.array_equal(np.concatenate(parts), whole)
    assert whole.shape == output.sr.shape[:2]
    assert len(np.unique(whole)) > 500


def test_rows_appear_nine_lr_rows_after_their_strip():
    lr01, output = random_output(20, 17)
    stream = UncertaintyStream(random_error_model(), lr01, scale=SCALE)
    rows = slice(0, 12 * SCALE)
    part = EngineOutput(output.sr[rows], output.predictions[:, rows], output.weights[:, rows])
    assert sum(len(each) for each in stream.add(StripOutput(0, part))) == (12 - 9) * SCALE


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_enlargement_is_linear_between_the_centers_of_blocks(scale: int):
    values = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    enlarged = enlarge_linear(np.pad(values, 1, mode="edge"), scale)
    rows, columns = ((np.arange(scale * side) + 0.5) / scale - 0.5 for side in values.shape)
    down = np.stack([np.interp(rows, np.arange(5), column) for column in values.T], axis=1)
    wanted = np.stack([np.interp(columns, np.arange(4), row) for row in down])
    assert np.allclose(enlarged, wanted, atol=1e-6)


def test_a_calibrated_bundle_has_the_same_weights_and_predicts_its_error(bundle: Bundle, tmp_path):
    folder = tmp_path / "calibrated"
    calibrated = write_calibrated_bundle(bundle, folder, model=random_error_model(), facts=FACTS)
    verify_bundle(calibrated)
    for name, sha256 in bundle.card.files.items():
        assert sha256_file(folder / name) == sha256
    assert calibrated.card.uncertainty == FACTS
    assert "uncertainty 0.800" in (folder / "README.md").read_text()
    answer = load(folder).predict(LR8)
    assert answer.uncertainty is not None
    assert (answer.uncertainty.shape, answer.uncertainty.dtype) == ((60, 48), np.float32)
    assert 0.5 <= answer.uncertainty.min() < answer.uncertainty.max() <= 30
    assert np.array_equal(answer.sr, load(bundle.folder).predict(LR8).sr)


def test_a_bundle_can_be_calibrated_onto_itself(bundle: Bundle, tmp_path):
    folder = tmp_path / "b"
    once = write_calibrated_bundle(bundle, folder, model=random_error_model(), facts=FACTS)
    other = replace(random_error_model(), levels=(0.5, 2.0, 40.0))
    write_calibrated_bundle(once, folder, model=other, facts=FACTS)
    assert require_error_model(read_bundle(folder)) == other
    verify_bundle(read_bundle(folder))


def test_a_folder_with_something_else_is_not_replaced(bundle: Bundle, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(BundleError, match="is not a bundle"):
        write_calibrated_bundle(bundle, tmp_path, model=random_error_model(), facts=FACTS)
    assert (tmp_path / "note.txt").read_text() == "mine"


def test_without_an_error_model_there_is_none_and_the_command_is_named(bundle: Bundle):
    assert load(bundle.folder).predict(LR8).uncertainty is None
    with pytest.raises(UsageError, match="d2csr calibrate -n tiny --data PAIRS"):
        require_error_model(bundle)
