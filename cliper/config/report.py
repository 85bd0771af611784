"""Sections of the wing `report`: compare, tabulate."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cliper.settings import Count, Distinct, Few, Settings


class Compare(Settings):
    """How two arms are compared."""

    resamples: Count = Field(description="of users, for the intervals and the randomisation test")


class Tabulate(Settings):
    """What Table 2 shows."""

    metrics: Distinct[Literal["recall", "ndcg", "precision", "map"]] = Field(description="metrics in the table's rows")
    cutoffs: Distinct[Few] = Field(description="K of each metric; each of `evaluate.cutoffs`")
