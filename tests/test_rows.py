"""Features as backbones read them: the gradient that is kept for the run equals autograd's own."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)

from cliper.models.backbones.rows import FeatureRows, linear

FEATURES = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)
BATCHES = [[0, 3, 6], [3, 4], [1], [0, 1, 2, 3, 4, 5, 6]]


def make(*, is_trained: bool = True, mlp_width: int | None = None) -> tuple[FeatureRows, torch.nn.Linear]:
    generator = torch.Generator().manual_seed(1)
    rows = FeatureRows(FEATURES, is_trained=is_trained, mlp_width=mlp_width, generator=generator)
    return rows, linear(rows.width, 2, generator)


def plain_projection(rows: FeatureRows, layer: torch.nn.Linear, items: torch.Tensor) -> torch.Tensor:
    picked = F.embedding(items, rows.features)
    return layer(picked if rows.mlp is None else F.leaky_relu(rows.mlp(picked)))


def gradients(rows: FeatureRows, layer: torch.nn.Linear) -> list[torch.Tensor]:
    parameters = [*rows.parameters(), *layer.parameters()]
    return [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("mlp_width", [None, 3])
def test_gradients_of_batch_after_batch_equal_autograds(mlp_width: int | None, set_to_none: bool) -> None:
    ours, plain = (make(mlp_width=mlp_width) for _ in range(2))
    for items in map(torch.tensor, BATCHES):
        for (rows, layer), project in ((ours, FeatureRows.project), (plain, plain_projection)):
            for module in (rows, layer):
                module.zero_grad(set_to_none=set_to_none)
            project(rows, layer, items).square().sum().backward()
        torch.testing.assert_close(gradients(*ours), gradients(*plain))


def test_two_uses_in_one_step_add_up() -> None:
    ours, plain = make(), make()
    for first, second in ([[0, 3], [3, 4]], [[5], [6]]):
        for (rows, layer), project in ((ours, FeatureRows.project), (plain, plain_projection)):
            rows.zero_grad()
            layer.zero_grad()
            sum(project(rows, layer, torch.tensor(items)).square().sum() for items in (first, second)).backward()
        torch.testing.assert_close(gradients(*ours), gradients(*plain))


def test_constant_features_get_no_gradient() -> None:
    rows, layer = make(is_trained=False)
    rows.project(layer, torch.tensor([1, 2])).sum().backward()
    assert rows.features.grad is None
    assert layer.weight.grad is not None
