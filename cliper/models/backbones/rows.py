"""Features of one modality as backbones read them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor, nn

from cliper.arrays import Vectors
from cliper.kernels import are_pinned

PADDING = 16  # values, a cache line


class FeatureRows(nn.Module):
    """Rows of features: constant or trained, through the MLP of the fusion if any.

    Source of the MLP: paper, section 3, "Fusion Layer": one layer, LeakyReLU.
    """

    features: Tensor

    def __init__(
        self,
        features: Vectors,
        *,
        is_trained: bool,
        mlp_width: int | None = None,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        if is_trained:
            self.features = nn.Parameter(torch.tensor(features))
        else:
            rows = empty_apart(len(features), torch.empty(0, features.shape[1]))
            rows.numpy()[:] = features
            self.register_buffer("features", rows, persistent=False)
        self.gradient = RowGradient()
        self.mlp = linear(features.shape[1], mlp_width, generator) if mlp_width else None
        self.width = mlp_width or features.shape[1]

    def forward(self, items: Tensor | None = None) -> Tensor:
        """Rows of items (n,), or all (I,): (n, width)."""
        rows = self.features if items is None else F.embedding(items, self.features)
        return rows if self.mlp is None else F.leaky_relu(self.mlp(rows))

    def project(self, layer: nn.Linear, items: Tensor) -> Tensor:
        """Rows of distinct items (n,) through a layer, (n, width of the layer's output)."""
        first = self.mlp or layer
        projected: Tensor = _Projection.apply(self.features, items, first.weight, first.bias, self.gradient)
        return projected if self.mlp is None else layer(F.leaky_relu(projected))


class RowGradient:
    """The gradient of a table of which each batch reads a few rows: kept for the run, so that only they are written.

    A new one for every batch is most of the work where rows are 4096 wide: 115 MB to allocate and to clear for Baby.
    """

    def __init__(self) -> None:
        self.values: Tensor | None = None
        self.written: list[Tensor] = []

    def add(self, table: Tensor, items: Tensor, rows: Tensor) -> None:
        """Add rows (n, D) of distinct items (n,) to the gradient of a table (I, D)."""
        if table.grad is None:
            if self.values is None:
                self.values = torch.zeros_like(table)
            for others in self.written:
                self.values.index_fill_(0, others, 0)
            table.grad, self.written = self.values.index_copy_(0, items, rows), [items]
        else:
            table.grad.index_add_(0, items, rows)
            self.written.append(items)


class _Projection(torch.autograd.Function):
    """Project rows of a table; its gradient, if it is trained, goes where `RowGradient` keeps it."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, items: Tensor, weight: Tensor, bias: Tensor, gradient: RowGradient) -> Tensor:
        rows = torch.index_select(table, 0, items, out=empty_apart(len(items), table))
        ctx.save_for_backward(items, weight, rows)
        ctx.table, ctx.gradient = table, gradient
        return torch.addmm(bias, rows, weight.T)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        items, weight, rows = ctx.saved_tensors
        of_weight = gradient.T @ rows
        if ctx.table.requires_grad:
            ctx.gradient.add(ctx.table, items, torch.mm(gradient, weight, out=rows))
        return None, None, of_weight, gradient.sum(dim=0), None


def empty_apart(n: int, like: Tensor) -> Tensor:
    """Make room for n rows as wide as those of `like` (m, D), a cache line apart.

    End to end, rows of 4096 values fall on the same few places of the cache, which slows MKL's products two to three
    times. Those of portable kernels would copy rows that are apart.
    """
    width = like.shape[1]
    return like.new_empty(n, width + (0 if are_pinned() else PADDING))[:, :width]


class _Undrawn(nn.Linear):
    """Without torch's draw from its global generator; `skip_init` spares it too, but takes 0.6 s the first time."""

    def reset_parameters(self) -> None:
        """Leave it to `linear`."""


def linear(width_in: int, width_out: int, generator: torch.Generator) -> nn.Linear:
    """Make x Wᵀ + b with torch's default initial values, uniform within ±1/√width_in, from our generator."""
    layer = _Undrawn(width_in, width_out)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -(width_in**-0.5), width_in**-0.5, generator)
    return layer
