import math

import pytest
import torch

from cliper.models.maths.losses import bpr, floored_bpr, half_squared_norm, info_nce, norm_sum


def test_bpr_is_the_mean_of_minus_log_sigmoid_of_the_margin():
    users = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    positives, negatives = torch.tensor([[1.0, 1.0], [5.0, 0.0]]), torch.tensor([[0.0, 1.0], [9.0, 2.0]])
    # Margins: (1 + 2) - 2 = 1 and 0 - 2 = -2.
    expected = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(2))) / 2
    assert bpr(users, positives, negatives).item() == pytest.approx(expected)


def test_bpr_of_a_hopeless_margin_is_finite():
    assert bpr(torch.tensor([[1e4]]), torch.tensor([[0.0]]), torch.tensor([[1.0]])).item() == pytest.approx(1e4)


def test_half_squared_norm_counts_triples_not_rows():
    two_rows = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    assert half_squared_norm(two_rows, two_rows).item() == pytest.approx((25 + 25) / 2 / 2)


def test_floored_bpr_adds_its_floor_to_the_sigmoid():
    zero, one = torch.zeros(1, 1), torch.ones(1, 1)
    assert floored_bpr(one, one, zero).item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert floored_bpr(1e4 * one, zero, one).item() == pytest.approx(-math.log(1e-10))


def test_norm_sum_adds_lengths_of_matrices_not_of_rows():
    two_rows = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    assert norm_sum(two_rows, 2 * two_rows).item() == pytest.approx((5 + 10) / 2)


@pytest.mark.parametrize("term", [half_squared_norm, norm_sum])
def test_a_backbone_without_decayed_rows_has_no_l2_term(term):
    assert term().item() == 0


def test_info_nce_is_the_cross_entropy_of_each_row_with_its_own_match():
    rows, matches = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    # Products: row 0 with the matches 2 and 0, row 1 with them 2 and 1; the temperature doubles them.
    expected = (math.log(1 + math.exp(-4)) + math.log(1 + math.exp(2))) / 2
    assert info_nce(rows, matches, temperature=0.5).item() == pytest.approx(expected)


def test_info_nce_has_the_gradients_of_cross_entropy_also_where_a_match_is_hopeless():
    generator = torch.Generator().manual_seed(0)
    rows, matches = (torch.randn(6, 3, generator=generator, dtype=torch.double) for _ in range(2))
    rows[0], matches[0] = 1000, -1  # its probability is 0, its loss some thousands
    leaves = [part.requires_grad_() for part in (rows, matches)]
    expected = torch.nn.functional.cross_entropy(rows @ matches.T / 0.2, torch.arange(6))
    loss = info_nce(rows, matches, temperature=0.2)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, leaves), torch.autograd.grad(expected, leaves))
