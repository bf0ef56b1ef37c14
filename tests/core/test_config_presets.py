"""The named networks and their sizes."""

import pytest

from d2csr.checkpoint.io import expected_shapes
from d2csr.core.config import PRESETS, ModelConfig, preset
from d2csr.core.errors import D2csrError
from d2csr.models.d2csr import D2CSR

FIGURE_4 = {
    "paper": 5.88e6,
    "paper-4.53m": 4.53e6,
    "paper-3.63m": 3.63e6,
    "paper-0.91m": 0.91e6,
    "paper-0.23m": 0.23e6,
    "paper-0.19m": 0.19e6,
}


def count(config):
    total = 0
    for shape in expected_shapes(config).values():
        size = 1
        for side in shape:
            size *= side
        total += size
    return total


PHOTO = {"photo": 0.3e6, "photo-base": 1.0e6}


def test_every_preset_has_its_size():
    assert set(PRESETS) == {*FIGURE_4, *PHOTO}


@pytest.mark.parametrize("name", PHOTO)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_presets_for_photographs_are_small_and_see_a_finite_part(name, scale):
    config = preset(name, scale)
    assert count(config) <= PHOTO[name]
    assert config.receptive_field.trunk_lr_px is not None


@pytest.mark.parametrize("name", FIGURE_4)
def test_preset_is_within_3_percent_of_the_paper(name):
    assert count(preset(name, 4)) == pytest.approx(FIGURE_4[name], rel=0.03)


@pytest.mark.parametrize("name", FIGURE_4)
def test_presets_keep_the_papers_tree_and_border_free_choices(name):
    config = preset(name, 2)
    assert (config.depth, config.children, config.deep_residual) == (2, 2, True)
    assert (config.base, config.mean, config.pooling_px) == ("none", "fixed", None)


def test_authors_network_has_their_number_of_parameters():
    authors = ModelConfig.from_dict(preset("paper", 4).to_dict() | {"mean": "convolution"})
    shapes = expected_shapes(authors)
    convergence = {name: shape for name, shape in shapes.items() if name.startswith("convergence")}
    assert sum(o * i * h * w for o, i, h, w in convergence.values()) == 46_080
    assert count(authors) == 5_723_492 + 46_080


def test_parameter_count_is_the_sum_of_all_shapes():
    config = preset("paper-0.19m", 3)
    assert D2CSR(config).parameter_count() == count(config)


def test_unknown_presets_are_answered_with_the_known_ones():
    with pytest.raises(D2csrError, match=r"papr.*paper-0\.91m"):
        preset("papr", 4)
