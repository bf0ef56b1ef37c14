"""Candidates of a speed measurement: presets, twins, and bundles that are deleted afterwards."""

import pytest

from d2csr.core.errors import UsageError
from d2csr.export.bundle_writer import export_random_bundle
from d2csr.speed.candidates import cases, open_candidates
from d2csr.speed.measure import channels_of
from tests.tiny_models import tiny_bundle


def export_tiny(config, folder):
    """Write a bundle that is exported in milliseconds, with the tails of `config`."""
    return tiny_bundle(folder, tail=config.tail)


def test_a_preset_gets_random_weights_that_are_deleted_afterwards():
    with open_candidates(("paper",), scale=4, make_random=export_tiny) as (candidate,):
        assert (candidate.name, candidate.trained, candidate.twin) == ("paper x4", False, None)
        assert candidate.bundle.folder.is_dir()
    assert not candidate.bundle.folder.exists()


def test_a_model_trained_with_collapsed_tails_has_an_expanded_twin(tmp_path):
    own = tiny_bundle(tmp_path / "own", tail="collapsed")
    with open_candidates(
        (str(own.folder),), scale=4, make_random=export_random_bundle
    ) as candidates:
        (candidate,) = candidates
        assert candidate.bundle == own
        assert candidate.twin.card.config.tail == "expanded"
        assert candidate.twin.card.config.channels == own.card.config.channels


def test_repeated_names_are_one_candidate_and_without_torch_there_are_no_twins(tmp_path):
    own = tiny_bundle(tmp_path / "own", tail="collapsed")
    name = str(own.folder)
    with open_candidates((name, name), scale=4, make_random=None) as candidates:
        assert [(each.name, each.twin) for each in candidates] == [(name, None)]


def test_a_compared_system_has_one_form_and_no_twin(system_bundle):
    bundle = system_bundle("edsr")
    with open_candidates(
        (str(bundle.folder),), scale=3, make_random=export_random_bundle
    ) as candidates:
        (candidate,) = candidates
        assert candidate.twin is None
        ways = [(each.backend, each.form) for each in cases(candidate, ("openvino",))]
    assert set(ways) == {("reference", "collapsed"), ("openvino", "collapsed")}
    assert channels_of(bundle.card.config) == bundle.card.config.sizes["features"] == 4


def test_a_preset_without_torch_is_an_error():
    with (
        pytest.raises(UsageError, match=r"paper needs PyTorch.*d2csr\[train\]"),
        open_candidates(("paper",), scale=4, make_random=None),
    ):
        pass
