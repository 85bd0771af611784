import math

import pytest
import torch

from cliper.losses import bpr, half_squared_norm


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
