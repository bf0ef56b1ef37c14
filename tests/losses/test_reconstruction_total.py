"""The sum of loss terms, and its refusal of terms that would train nothing."""

import pytest
import torch

from d2csr.losses.reconstruction import LossTerm, weighted_sum


def test_total_is_equation_7():
    first, second = torch.tensor(2.0, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    loss = weighted_sum([LossTerm("own", 1.0, first), LossTerm("apart", 0.5, second)])
    loss.backward()
    assert (loss.item(), first.grad.item(), second.grad.item()) == (3.5, 1.0, 0.5)


def test_a_detached_term_is_refused_by_name():
    """The authors' code adds the triplet term as a number: it never trained a branch."""
    own = torch.tensor(2.0, requires_grad=True)
    apart = torch.tensor(3.0, requires_grad=True).detach()
    with pytest.raises(RuntimeError, match="triplet is detached"):
        weighted_sum([LossTerm("own", 1.0, own), LossTerm("triplet", 2e-5, apart)])


def test_a_detached_term_of_weight_0_is_left_out():
    own = torch.tensor(2.0, requires_grad=True)
    assert (
        weighted_sum([LossTerm("own", 1.0, own), LossTerm("triplet", 0.0, torch.tensor(3.0))])
        == 2.0
    )


def test_a_sum_without_any_weight_is_refused():
    with pytest.raises(ValueError, match="all loss terms have the weight 0"):
        weighted_sum([LossTerm("own", 0.0, torch.tensor(2.0, requires_grad=True))])
