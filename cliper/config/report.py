"""Section of the wing `report`: tabulate."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cliper.settings import Distinct, Settings


class Tabulate(Settings):
    """What Table 2 shows."""

    metrics: Distinct[Literal["recall", "ndcg", "precision", "map"]] = Field(description="metrics in the table's rows")
    cutoffs: Distinct[Annotated[int, Field(ge=1)]] = Field(description="K of each metric; each of `evaluate.cutoffs`")
