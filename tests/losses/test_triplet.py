"""The triplet term against loops over single numbers, and what it must do to the branches."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from d2csr.core.config import ModelConfig
from d2csr.core.errors import D2csrError
from d2csr.losses.triplet import Tree, TripletConfig, error_maps, standardize, triplet_term
from d2csr.models.d2csr import DivergenceNet
from tests.oracles import triplet as oracle

AUTHORS = {"luma": "mean", "statistics": "batch"}
SMALL_TREES = [(1, 2), (1, 3), (2, 2), (3, 2), (2, 3), (1, 5)]
SWITCHES = st.fixed_dictionaries(
    {
        "theta": st.sampled_from([0.25, 0.8, 1.0]),
        "luma": st.sampled_from(["y", "mean"]),
        "statistics": st.sampled_from(["image", "batch"]),
        "absolute": st.booleans(),
    }
)


def random_images(images, tree, *, seed=0, size=(3, 4)):
    """Return random predictions, each image's a different distance from its HR, and the HR."""
    random = np.random.default_rng(seed)
    hr = random.random((images, 3, *size))
    spread = random.random((images, tree.leaves, 1, 1, 1))
    return hr[:, None] + spread * random.standard_normal((images, tree.leaves, 3, *size)), hr


def term(predictions, hr, tree, settings):
    return triplet_term(
        torch.as_tensor(predictions), torch.as_tensor(hr), tree=tree, settings=settings
    )


@given(
    shape=st.sampled_from(SMALL_TREES),
    images=st.integers(1, 3),
    single_margin=st.booleans(),
    switches=SWITCHES,
    seed=st.integers(0, 2**16),
)
def test_triplet_term_is_equations_2_to_6_in_loops(shape, images, single_margin, switches, seed):
    tree = Tree(*shape)
    predictions, hr = random_images(images, tree, seed=seed)
    margins = (0.7,) if single_margin else tuple(0.9 / (level + 1) for level in range(tree.depth))
    settings = TripletConfig(margins=margins, **switches)
    expected = oracle.triplet_term(
        predictions.tolist(),
        hr.tolist(),
        depth=tree.depth,
        children=tree.children,
        margins=margins,
        theta=switches["theta"],
        kind=switches["luma"],
        statistics=switches["statistics"],
        absolute=switches["absolute"],
    )
    assert float(term(predictions, hr, tree, settings)) == pytest.approx(expected, rel=1e-9)


@given(shape=st.sampled_from([*SMALL_TREES, (4, 2), (3, 3)]), data=st.data())
def test_common_level_is_where_two_paths_part(shape, data):
    tree = Tree(*shape)
    first = data.draw(st.integers(0, tree.leaves - 1))
    second = data.draw(st.integers(0, tree.leaves - 1).filter(lambda leaf: leaf != first))
    expected = oracle.level_of_common_parent(first, second, *shape)
    assert tree.common_level(first, second) == tree.common_level(second, first) == expected


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize(
    ("key", "margins"),
    [("triplet_margin_2e5_5e5", (5e-5, 2e-5)), ("triplet_margin_0p3_0p5", (0.5, 0.3))],
)
def test_triplet_term_is_the_authors_value(data_folder, scale, key, margins):
    with np.load(data_folder / "official" / f"io_x{scale}.npz") as stored:
        predictions = stored["noisy_predictions_bgr"].swapaxes(0, 1)[:, :, ::-1].copy()
        hr = stored["hr_bgr"][:, ::-1].copy()
    values = json.loads((data_folder / "official" / f"values_x{scale}.json").read_text())
    found = term(predictions, hr, Tree(2, 2), TripletConfig(margins=margins, **AUTHORS))
    assert float(found) == pytest.approx(values[key], rel=1e-5)


@given(shape=st.sampled_from(SMALL_TREES), switches=SWITCHES, seed=st.integers(0, 2**16))
def test_triplet_term_ignores_exposure_and_contrast(shape, switches, seed):
    tree, settings = Tree(*shape), TripletConfig(margins=(0.5,), **switches)
    predictions, hr = random_images(2, tree, seed=seed)
    brighter = predictions * 1.7 + 0.2
    assert float(term(brighter, hr, tree, settings)) == pytest.approx(
        float(term(predictions, hr, tree, settings)), rel=1e-9
    )


@given(shape=st.sampled_from(SMALL_TREES), seed=st.integers(0, 2**16))
def test_per_image_term_is_the_mean_of_single_images(shape, seed):
    tree, settings = Tree(*shape), TripletConfig(margins=(0.5,))
    predictions, hr = random_images(3, tree, seed=seed)
    single = [float(term(predictions[[n]], hr[[n]], tree, settings)) for n in range(3)]
    assert float(term(predictions, hr, tree, settings)) == pytest.approx(np.mean(single), rel=1e-9)


@given(swap=st.sampled_from([(0, 1, 3, 2), (1, 0, 2, 3), (2, 3, 0, 1)]), seed=st.integers(0, 99))
def test_swapping_children_of_one_parent_changes_nothing(swap, seed):
    tree, settings = Tree(2, 2), TripletConfig(margins=(0.5, 0.3))
    predictions, hr = random_images(2, tree, seed=seed)
    assert float(term(predictions[:, list(swap)], hr, tree, settings)) == pytest.approx(
        float(term(predictions, hr, tree, settings)), rel=1e-12
    )


def test_equal_predictions_cost_the_margins_and_their_error():
    tree, settings = Tree(2, 2), TripletConfig(margins=(0.5, 0.3))
    predictions, hr = random_images(1, tree)
    predictions[:] = predictions[:, :1]
    own = (
        error_maps(torch.as_tensor(predictions), torch.as_tensor(hr), settings=settings)
        .square()
        .mean()
    )
    expected = (8 * (float(own) + 0.5) + 4 * 0.8 * (float(own) + 0.3)) / 12
    assert float(term(predictions, hr, tree, settings)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("shape", [(2, 2), (1, 3), (3, 2)])
@pytest.mark.parametrize("choices", [{}, AUTHORS])
def test_every_branch_gets_a_gradient_from_the_triplet_term_alone(shape, choices):
    """The authors' code turns the term into a number first, so no branch ever felt it."""
    tree, settings = Tree(*shape), TripletConfig(margins=(0.5, 0.3), **choices)
    config = ModelConfig(
        scale=2, channels=16, groups=1, blocks=1, depth=tree.depth, children=tree.children
    )
    network = with_open_gates(DivergenceNet(config)).double()
    hr = torch.rand(2, 3, 16, 16).double()
    predictions = network(torch.nn.functional.avg_pool2d(hr, 2))
    assert all_hinges_are_active(predictions, hr, tree, settings)
    triplet_term(predictions, hr, tree=tree, settings=settings).backward()
    pulls = {name: float(value.grad.abs().max()) for name, value in network.named_parameters()}
    unmoved = {name for name, pull in pulls.items() if pull < 1e-8}
    # one constant added to a whole prediction can't be felt: Eq. 2 subtracts the mean
    assert unmoved == {f"tails.{leaf}.out.bias" for leaf in range(tree.leaves)}


def with_open_gates(network):
    """Return the network with every ReLU of the attention open, so that no gradient stops there."""
    for name, value in network.named_parameters():
        if name.endswith("attention.squeeze.bias"):
            torch.nn.init.ones_(value)
    return network


def all_hinges_are_active(predictions, hr, tree, settings):
    """Return whether every ordered pair of every image falls short of its margin."""
    with torch.no_grad():
        errors = error_maps(predictions, hr, settings=settings)
    pairs = [(i, j) for i in range(tree.leaves) for j in range(tree.leaves) if i != j]
    return all(
        float(one[i].square().mean() - (one[i] - one[j]).square().mean()) > -min(settings.margins)
        for one in errors
        for i, j in pairs
    )


@pytest.mark.parametrize("statistics", ["image", "batch"])
@pytest.mark.parametrize("flat", ["hr", "predictions", "both"])
def test_flat_images_give_finite_values_and_gradients(statistics, flat):
    predictions, hr = (torch.as_tensor(part).float() for part in random_images(2, Tree(2, 2)))
    if flat != "predictions":
        hr = torch.full_like(hr, 0.5)
    if flat != "hr":
        predictions = torch.full_like(predictions, 0.25)
    predictions.requires_grad_()
    settings = TripletConfig(margins=(0.5, 0.3), statistics=statistics)
    value = triplet_term(predictions, hr, tree=Tree(2, 2), settings=settings)
    value.backward()
    assert value.isfinite()
    assert predictions.grad.isfinite().all()


def test_standardized_luma_has_mean_0_and_deviation_1():
    found = standardize(torch.rand(2, 3, 3, 8, 9).double(), luma="y", statistics="image")
    torch.testing.assert_close(found.mean((2, 3)), torch.zeros(2, 3).double())
    torch.testing.assert_close(found.std((2, 3), correction=0), torch.ones(2, 3).double())


def test_a_single_leaf_has_no_rival():
    predictions = torch.rand(1, 1, 3, 4, 4, requires_grad=True)
    value = triplet_term(
        predictions, torch.rand(1, 3, 4, 4), tree=Tree(1, 1), settings=TripletConfig()
    )
    assert value == 0
    assert value.requires_grad


@pytest.mark.parametrize(
    "choices", [{"theta": 0.0}, {"theta": 1.1}, {"margins": ()}, {"margins": (0.1, -0.1)}]
)
def test_settings_out_of_range_are_refused(choices):
    with pytest.raises(D2csrError, match="triplet"):
        TripletConfig(**choices)
