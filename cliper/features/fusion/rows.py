"""The fusions: how each weighs an item's views and joins them into one vector. One row a fusion.

Source: paper, section 3, equations 2 and 3. Departs from it: mean, mean_as_released and mlp_frozen are not in it.
"""

from __future__ import annotations

from typing import NamedTuple


class Fusion(NamedTuple):
    """How an arm's views become one text feature; the functions are in `equations.WEIGHTS` and `equations.JOINS`."""

    weigh: str
    join: str
    n_views: int | None = None  # the first views of the arm are fused, the others left out; None: all
    compares_image: bool = False  # weights need a temperature, and image and text of one encoder
    is_learned: bool = False  # by the backbone, from the joined views


FUSIONS: dict[str, Fusion] = {
    "sum": Fusion("uniform", "sum"),
    "concat": Fusion("uniform", "concat"),
    "sa": Fusion("by_similarity", "weighted_sum", compares_image=True),
    "mean": Fusion("uniform", "weighted_sum"),
    "mean_as_released": Fusion("uniform", "weighted_sum", n_views=3),  # the released code: title, brand, categories
    "mlp": Fusion("uniform", "concat", is_learned=True),
    "mlp_frozen": Fusion("uniform", "random_layer"),  # the released code, in FREEDOM and LATTICE: never trained
}
