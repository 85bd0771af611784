"""Sections of the wing `models`: neighbours, train, backbones, search, evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import prod
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    field_validator,
    model_validator,
)

from cliper.models.backbones import BACKBONES
from cliper.models.backbones.base_settings import BackboneSettings
from cliper.settings import (
    Count,
    Device,
    Distinct,
    Few,
    Name,
    NotNegative,
    Number,
    Positive,
    Seed,
    Settings,
    Share,
    fault,
)
from cliper.variants import Variant

MOST_POINTS = 10_000  # of a grid: all are listed, also where few are drawn
MOST_VALUE = 1e9
STOPPED_BY = 20  # training stops by validation Recall@20


class Neighbours(Settings):
    """How many neighbours are found for backbones that use graphs."""

    items: Few = Field(description="neighbours of each item: the closest items by features")
    users: Few = Field(description="neighbours of each user: the users who share most items")


class Train(Settings):
    """How a backbone is trained."""

    behaviour: Literal["as_published", "as_mmrec"] = Field(
        description="as_mmrec: with all deviations of the toolbox MMRec, its bugs included"
    )
    learning_rate: Positive = Field(description="of Adam")
    weight_decay: NotNegative = Field(description="λ of the L2 term")
    weight_decay_on: Literal["batch", "parameters"] = Field(
        description="batch: half the squared embeddings of a batch's triples, before propagation; parameters: by Adam"
    )
    batch_size: Count = Field(description="triples per batch")
    max_epochs: Count = Field(description="epochs after which training stops in any case")
    patience: Count = Field(description="epochs without a better validation Recall@20 before training stops")
    threads: Few = Field(description="threads that compute, per cell")
    device: Device = Field(description="auto: cuda if there is a GPU")


def _as_value(value: Any) -> bool | int | float | str:
    """A value of a grid; the settings that take it check it again."""
    if isinstance(value, bool | str) or (isinstance(value, int | float) and -MOST_VALUE <= value <= MOST_VALUE):
        return value
    raise fault(f"no text, truth value or number up to {MOST_VALUE:g}")


Value = Annotated[bool | int | float | str, PlainValidator(_as_value, json_schema_input_type=bool | Number | str)]


class Space(Settings):
    """What a search tries for one backbone with one arm: all points of a grid, or some that are drawn of it."""

    grid: Annotated[dict[str, Distinct[Value]], Field(min_length=1)] = Field(
        description="flat keys (fields of `train`, d, the backbone's own) -> values; the last key varies fastest"
    )
    draws: Count | None = Field(
        None, description="points drawn of the grid; a larger number adds trials and keeps the others"
    )

    @model_validator(mode="after")
    def _has_points_to_draw(self) -> Self:
        n = prod(map(len, self.grid.values()))
        if n > MOST_POINTS:
            raise fault(f"the grid has {n:,} points, more than {MOST_POINTS:,}; leave values out")
        if self.draws is not None and self.draws >= n:
            raise fault(f"the grid has {n} points; draw fewer of them, or leave draws out")
        return self


class Search(Settings):
    """How settings are searched by validation, before the cells of a run are trained with the best."""

    seed: Seed = Field(description="of every trial's training, and of the draws; none of the seeds of cells")
    rungs: tuple[Count, ...] = Field(
        description="epochs after which trials are compared and the worst dropped, in rising order; the rest train on"
    )
    keep: Share = Field(description="share of the trials that go on after each rung, rounded; at least one does")
    spaces: dict[Name, dict[Name, dict[Name, Space]]] | None = Field(
        None,
        description="dataset -> backbone -> arm -> what is tried; an arm that is not here takes what is selected for "
        "the arm that it extends; null: no search",
    )

    @field_validator("rungs")
    @classmethod
    def _rises(cls, rungs: tuple[int, ...]) -> tuple[int, ...]:
        if any(later <= earlier for earlier, later in pairwise(rungs)):
            raise fault(f"{list(rungs)} does not rise; write the epochs in their order")
        return rungs


def _with_names(raw: Any) -> Any:
    """Add to each backbone's section its name, which chooses the backbone."""
    return {name: (name, section) for name, section in raw.items()} if isinstance(raw, Mapping) else raw


def _as_backbone(named: Any) -> Variant[BackboneSettings]:
    name, section = named
    return BACKBONES.choose(section, kind=name)


class _SchemaOfBackbones:
    """JSON schema of the section: our names have their own settings, any other name needs a user's own class."""

    def __get_pydantic_json_schema__(self, _: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        ours = {name: handler(row.settings.__pydantic_core_schema__) for name, row in BACKBONES.rows.items()}
        own = {"type": "object", "required": ["class"]}
        return {"type": "object", "properties": ours, "additionalProperties": own}


Backbone = Annotated[Variant[BackboneSettings], PlainValidator(_as_backbone)]
Backbones = Annotated[dict[Name, Backbone], BeforeValidator(_with_names), _SchemaOfBackbones()]


def _has_20(cutoffs: tuple[int, ...]) -> tuple[int, ...]:
    if STOPPED_BY not in cutoffs:
        raise fault(f"{list(cutoffs)} lacks {STOPPED_BY}, by which training stops; add it")
    return cutoffs


class Evaluate(Settings):
    """The cutoffs of the metrics, and what the test ranking leaves out in addition to train items."""

    cutoffs: Annotated[Distinct[Few], AfterValidator(_has_20)] = Field(
        description="K of Recall@K and of the other metrics"
    )
    mask_valid: bool = Field(description="leave a user's validation items out of the test ranking")
