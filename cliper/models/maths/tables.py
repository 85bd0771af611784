"""Neighbours and rankings as tables and as matrices, each conversion next to its inverse.

Matrices have a row for each user or item and end a list early with -1. Tables have a line for each place in a list.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from cliper.arrays import Ints, Scores


class Neighbours(NamedTuple):
    """The closest rows of each row, closest first; -1 where a list ends early."""

    nearest: Ints  # (n, k)
    closeness: Scores  # (n, k) how close: a cosine or a count


class Ranking(NamedTuple):
    """Best items of every user, best first; -1 where a user has no item left."""

    items: Ints  # (U, K)
    scores: Scores  # (U, K); -inf where there is no item


def neighbours_to_table(neighbours: Neighbours, row: str, value: str) -> pl.DataFrame:
    """Lay neighbours out as lines: row, rank from 1, neighbour, value. An empty list keeps one line, of rank 0."""
    rows, places = np.nonzero(neighbours.nearest >= 0)
    empty = np.flatnonzero((neighbours.nearest < 0).all(axis=1))
    lines = {
        row: np.concatenate([rows, empty]),
        "rank": np.concatenate([places + 1, np.zeros_like(empty)]),
        "neighbour": np.concatenate([neighbours.nearest[rows, places], np.full_like(empty, -1)]),
        value: np.concatenate([neighbours.closeness[rows, places], np.zeros(len(empty), dtype=np.float32)]),
    }
    return pl.DataFrame(lines).sort(row, "rank")


def neighbours_from_table(table: pl.DataFrame) -> Neighbours:
    """Lay a table of neighbours out as a matrix, as wide as its longest list (at least 1).

    table  row (by any name), rank, neighbour, value, as `neighbours_to_table` makes it
    """
    n_rows = table[table.columns[0]].to_numpy().max(initial=-1) + 1
    row, rank, neighbour, value = (column.to_numpy() for column in table.filter(pl.col("rank") > 0))
    width = max(1, rank.max(initial=0))
    nearest, closeness = np.full(n_rows * width, -1), np.zeros(n_rows * width, dtype=np.float32)
    place = row.astype(np.int64) * width + rank - 1
    nearest[place], closeness[place] = neighbour, value
    return Neighbours(nearest.reshape(n_rows, width), closeness.reshape(n_rows, width))


def ranking_to_table(ranking: Ranking) -> pl.DataFrame:
    """Lay a ranking out as lines: user, rank from 1, item, score. A user without items has none."""
    users, ranks = np.nonzero(ranking.items >= 0)
    return pl.DataFrame(
        {
            "user": users.astype(np.int32),
            "rank": (ranks + 1).astype(np.int16),
            "item": ranking.items[users, ranks].astype(np.int32),
            "score": ranking.scores[users, ranks],
        }
    )


def ranked_items_from_table(table: pl.DataFrame, *, n_users: int) -> Ints:
    """Lay the items of a ranking out as a matrix (U, K), as wide as its longest list.

    table    user, rank (from 1), item
    n_users  U is at least this: users at the end may have no line
    """
    users, ranks, items = (table[name].to_numpy().astype(np.int64) for name in ("user", "rank", "item"))
    matrix = np.full((max(n_users, users.max(initial=-1) + 1), ranks.max(initial=0)), -1)
    matrix[users, ranks - 1] = items
    return matrix


def leave_out(topk: pl.DataFrame, interactions: pl.DataFrame) -> pl.DataFrame:
    """Take items out of their users' rankings; later items move up.

    topk          user, rank (from 1), item, sorted
    interactions  user, item
    """
    kept = topk.join(interactions, on=["user", "item"], how="anti", maintain_order="left")
    return kept.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int16).over("user"))
