"""What a search tries: its trials as flat settings, and how many of them each rung trains."""

from __future__ import annotations

import hashlib
from itertools import product
from math import floor
from typing import Any

from cliper.config.models import Search, Space


def trials_of(space: Space, *, seed: int) -> list[dict[str, Any]]:
    """The trials in their order, each as flat settings.

    A grid has its points in the order in which it is written. Draws are without repetition, and more of them begin with
    the same ones.

    >>> [*map(list, map(dict.values, trials_of(Space(grid={"d": (64, 128), "k": (5, 10)}), seed=0)))]
    [[64, 5], [64, 10], [128, 5], [128, 10]]
    """
    points = [dict(zip(space.grid, values, strict=True)) for values in product(*space.grid.values())]
    if space.draws is None:
        return points
    return sorted(points, key=lambda point: hashlib.sha256(f"{seed} {point}".encode()).digest())[: space.draws]


def slots_of(search: Search, n_trials: int) -> tuple[int, ...]:
    """Number of trials that each rung trains; the last rung ends where training ends.

    >>> slots_of(Search(seed=0, rungs=(10, 50), keep=0.33), 8)
    (8, 3, 1)
    """
    slots = [n_trials]
    for _ in search.rungs:
        slots.append(max(1, floor(search.keep * slots[-1] + 0.5)))
    return tuple(slots)


def epochs_of(search: Search, rung: int, *, most: int) -> int:
    """Epochs that a trial trains in a rung, if training ends after `most`.

    >>> search = Search(seed=0, rungs=(10, 50), keep=0.33)
    >>> [epochs_of(search, rung, most=100) for rung in range(3)]
    [10, 40, 50]
    """
    begin, end = (min(most, epoch) for epoch in (0, *search.rungs, most)[rung : rung + 2])
    return end - begin
