"""Sections of the wing `models`: neighbours, train, backbones, evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler, PlainValidator

from cliper.models.backbones import BACKBONES
from cliper.models.backbones.base_settings import BackboneSettings
from cliper.settings import Device, Distinct, Name, Settings, fault
from cliper.variants import Variant

STOPPED_BY = 20  # training stops by validation Recall@20


class Neighbours(Settings):
    """How many neighbours are found for backbones that use graphs."""

    items: int = Field(ge=1, description="closest items of an item, by its features")
    users: int = Field(ge=1, description="users who share most items with a user")


class Train(Settings):
    """How a backbone is trained."""

    behaviour: Literal["as_published", "as_mmrec"] = Field(
        description="as_mmrec: the toolbox's deviations, bug for bug"
    )
    learning_rate: float = Field(gt=0, description="of Adam")
    weight_decay: float = Field(ge=0, description="λ of the L2 term")
    weight_decay_on: Literal["batch", "parameters"] = Field(
        description="batch: half the squared embeddings of a batch's triples, before propagation; parameters: by Adam"
    )
    batch_size: int = Field(ge=1, description="triples")
    max_epochs: int = Field(ge=1, description="epochs after which training stops in any case")
    patience: int = Field(ge=1, description="epochs without a better validation Recall@20")
    threads: int = Field(ge=1, description="numeric threads a cell")
    device: Device = Field(description="auto: cuda where there is one")


def _with_names(raw: Any) -> Any:
    """Each backbone's section with its name, by which it is chosen."""
    return {name: (name, section) for name, section in raw.items()} if isinstance(raw, Mapping) else raw


def _as_backbone(named: Any) -> Variant[BackboneSettings]:
    name, section = named
    return BACKBONES.choose(section, kind=name)


class _SchemaOfBackbones:
    """JSON schema of the section: a name of ours has its settings, another a class of the user's own."""

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
    """At which ranks the metrics are cut, and what the test ranking leaves out besides train items."""

    cutoffs: Annotated[Distinct[Annotated[int, Field(ge=1)]], AfterValidator(_has_20)] = Field(
        description="K of Recall@K and its like"
    )
    mask_valid: bool = Field(description="leave a user's validation items out of the test ranking")
