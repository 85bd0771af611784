"""Sections of the wing `report`: compare, tabulate, explore."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cliper.settings import Count, Distinct, Few, Seed, Settings


class Compare(Settings):
    """How two arms are compared."""

    resamples: Count = Field(description="of users, for the intervals and the randomisation test")


class Tabulate(Settings):
    """What Table 2 shows."""

    metrics: Distinct[Literal["recall", "ndcg", "precision", "map"]] = Field(description="metrics in the table's rows")
    cutoffs: Distinct[Few] = Field(description="K of each metric; each of `evaluate.cutoffs`")


class Explore(Settings):
    """What the report shows of each dataset's items and users."""

    items: Few = Field(description="items of a dataset: half by chance, half those whose views disagree most")
    neighbours: Few = Field(description="closest items that are shown, by image and by text")
    users: Few = Field(description="users of a dataset whose lists are shown")
    list_length: Few = Field(description="items of a user that are shown, and of each list")
    pictures: bool = Field(description="whether the named items' pictures are shown; a shop's may not be published")
    seed: Seed = Field(description="of what is chosen by chance")
