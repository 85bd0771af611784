"""Graphs that stay as they are while a backbone learns: user-item and item-item.

Everything here is built once (or once an epoch) from numpy arrays; only `SparseMatrix` lives in the model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor, nn

from cliper.arrays import Floats, Ints

Product = Callable[..., tuple[Tensor, ...]]

DEGREE_FLOOR = 1e-7  # from FREEDOM: a node without edges must not divide by zero


class Edges(NamedTuple):
    """Entries of a sparse matrix; entries at the same place add up."""

    rows: Ints
    columns: Ints
    values: Floats


class SparseMatrix(nn.Module):
    """A constant sparse matrix A of the given shape: `matrix(x)` is Ax, `matrix.transposed(x)` is Aᵀx.

    Both have a gradient for x. Rows are summed by `embedding_bag`, on a CPU twice as fast as torch's own sparse
    product (237,000 entries, d = 64, one thread: 4.2 ms against 7.9), and the same on every run.
    """

    def __init__(self, edges: Edges, *, shape: tuple[int, int]) -> None:
        super().__init__()
        self.n_rows = shape[0]
        matrix = scipy.sparse.csr_array((edges.values, (edges.rows, edges.columns)), shape=shape)
        self.by_row, self.by_column = _Csr(matrix), _Csr(matrix.T.tocsr())

    def forward(self, x: Tensor) -> Tensor:
        product: Tensor = _Product.apply(x, self.by_row, self.by_column)
        return product

    def transposed(self, x: Tensor) -> Tensor:
        product: Tensor = _Product.apply(x, self.by_column, self.by_row)
        return product


class _Csr(nn.Module):
    """Compressed rows; not in the state, since they are made from the data again."""

    starts: Tensor
    columns: Tensor
    values: Tensor

    def __init__(self, matrix: scipy.sparse.csr_array) -> None:
        super().__init__()
        self.register_buffer("starts", torch.from_numpy(matrix.indptr), persistent=False)
        self.register_buffer("columns", torch.from_numpy(matrix.indices), persistent=False)
        self.register_buffer("values", torch.from_numpy(matrix.data.astype(np.float32)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.embedding_bag(
            self.columns, x, self.starts, mode="sum", per_sample_weights=self.values, include_last_offset=True
        )


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: _Csr, transposed: _Csr) -> Tensor:
        ctx.transposed = transposed
        return matrix.forward(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.transposed(gradient.contiguous()), None, None


def edge_weights(users: Ints, items: Ints) -> Floats:
    """Weigh each interaction by the degrees of its ends: 1 / √(d_u d_i), the symmetric normalisation.

    users, items  (n,) the interactions
    returns       (n,)

    Source: LightGCN, equation 3; the floor under the degrees is FREEDOM's.
    """
    degrees = (np.bincount(nodes)[nodes] + DEGREE_FLOOR for nodes in (users, items))
    weights: Floats = 1 / np.sqrt(np.multiply(*degrees))
    return weights


def interaction_graph(users: Ints, items: Ints, n_users: int, n_items: int) -> SparseMatrix:
    """Build the user-item graph R̂ (U, I), symmetrically normalised; its other half is its transpose."""
    return SparseMatrix(Edges(users, items, edge_weights(users, items)), shape=(n_users, n_items))


def propagate(graph: SparseMatrix, users: Tensor, items: Tensor, n_layers: int) -> tuple[Tensor, Tensor]:
    """Average the embeddings over layers 0 to n_layers of the user-item graph.

    Arguments and result as `sum_layers` has them. Source: LightGCN, equation 8 with equal weights.
    """
    user_sum, item_sum = sum_layers(graph, users, items, n_layers)
    return user_sum / (n_layers + 1), item_sum / (n_layers + 1)


def sum_layers(graph: SparseMatrix, users: Tensor, items: Tensor, n_layers: int) -> tuple[Tensor, Tensor]:
    """Add the embeddings of layers 0 to n_layers of the user-item graph up.

    graph         (U, I) normalised
    users, items  (U, d), (I, d) layer 0
    returns       (U, d), (I, d)

    Source: LightGCN, equations 3 and 4. Departs from it: nothing.
    """

    def product(users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        return graph.by_row(items), graph.by_column(users)

    user_sum, item_sum = LayerSum.apply(product, product, n_layers, users, items)
    return user_sum, item_sum


class LayerSum(torch.autograd.Function):
    """Sum x + Ax + … + Aⁿx of one or more tensors x, by Horner's rule, which needs room for one layer at a time.

    product, transposed  Ax and Aᵀx of all the tensors
    """

    @staticmethod
    def forward(ctx: Any, product: Product, transposed: Product, n_layers: int, *x: Tensor) -> tuple[Tensor, ...]:
        ctx.transposed, ctx.n_layers = transposed, n_layers
        return _sum_powers(product, n_layers, x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, *_sum_powers(ctx.transposed, ctx.n_layers, tuple(g.contiguous() for g in gradients))


def _sum_powers(product: Product, n_layers: int, x: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    total = x
    for _ in range(n_layers):
        total = tuple(layer.add_(part) for layer, part in zip(product(*total), x, strict=True))
    return total


def neighbour_means(users: Ints, items: Ints, n_users: int, n_items: int) -> tuple[SparseMatrix, SparseMatrix]:
    """Build what averages the items of each user (U, I), and what averages the users of each item (I, U).

    Nodes without interactions get zeros. Source: MMGCN's code, mean aggregation. Departs from it: nothing.
    """
    user_edges = Edges(users, items, 1 / np.bincount(users)[users])
    item_edges = Edges(items, users, 1 / np.bincount(items)[items])
    return SparseMatrix(user_edges, shape=(n_users, n_items)), SparseMatrix(item_edges, shape=(n_items, n_users))
