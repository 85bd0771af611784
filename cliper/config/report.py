"""Section of the wing `report`: tabulate."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cliper.settings import Distinct, Few, Settings


class Tabulate(Settings):
    """What Table 2 shows."""

    metrics: Distinct[Literal["recall", "ndcg", "precision", "map"]] = Field(description="metrics in the table's rows")
    cutoffs: Distinct[Few] = Field(description="K of each metric; each of `evaluate.cutoffs`")
