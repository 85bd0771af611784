"""Sections of the wing `features`: prompts and their views, encoders, encode, fuse, arms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator

from cliper.features.encoders import ENCODERS
from cliper.features.encoders.base_settings import EncoderSettings, Policy
from cliper.features.fusion.rows import FUSIONS
from cliper.settings import HOW, Device, Distinct, Name, SchemaOf, Settings, Text, fault
from cliper.variants import Variant

Step = Literal["entities", "tags", "control_characters", "white_space", "line_breaks", "noise"]
Encoder = Annotated[Variant[EncoderSettings], PlainValidator(ENCODERS.choose), ENCODERS.schema()]
MADE_BY = ("image", "text", "prompts", "fusion")  # keys of an arm whose features are made here


class Prompt(Settings):
    """How values of the metadata are written into prompts, where a view does not say otherwise."""

    clean: tuple[Step, ...] = Field(description="steps that clean a value, in this order")
    categories: Literal["all_names", "first_path"] = Field(
        description="all_names: the distinct names of all paths, joined by ', '; first_path: each name and a space"
    )
    min_length: int = Field(ge=1, description="characters; a shorter value counts as missing")


class FieldView(Prompt):
    """A view that is a sentence about fields of the metadata."""

    fields: Annotated[tuple[Literal["title", "brand", "categories", "description"], ...], Field(min_length=1)] = Field(
        description="whose values fill the blank, joined by one space"
    )
    prompt: str = Field(pattern="___", description="___ stands for the value")
    missing: str = Field(description="the whole text when every field is missing")
    slice_prefix: str | None = Field(
        None, description="before the later slices of a text longer than the context; else what stands before ___"
    )


class JoinedView(Settings):
    """A view that joins the prompts of other views."""

    views: Annotated[tuple[Name, ...], Field(min_length=1)] = Field(
        description="of this set, whose prompts fill the blank, joined by one space"
    )
    prompt: str = Field(pattern="___", description="___ stands for the prompts")
    slice_prefix: str | None = Field(None, description="as of a view of fields")


def as_view(raw: Any) -> FieldView | JoinedView:
    """A view by its keys: joined if it names views, else of fields."""
    model = JoinedView if isinstance(raw, Mapping) and "views" in raw else FieldView
    return model.model_validate(raw)


View = Annotated[
    FieldView | JoinedView, PlainValidator(as_view), SchemaOf((FieldView, {}), (JoinedView, {}), section=Prompt)
]


class Encode(Settings):
    """How encoders are run."""

    batch_size: int = Field(ge=1, description="images a batch")
    batch_tokens: int = Field(ge=1, description="texts of a batch times the tokens they are padded to")
    threads: int = Field(ge=1, description="numeric threads")
    device: Device = Field(description="auto: cuda where there is one")
    precision: Literal["fp32", "bf16", "fp16", "auto"] = Field(
        description="of weights and activations; auto: a half one where it is clearly faster"
    )
    overflow: Policy = Field(description="what becomes of a text longer than the encoder's context")
    ranges: Annotated[int, HOW] = Field(ge=1, description="equal slices of a dataset's items, each a job and a file")
    store: Annotated[Text | None, HOW] = Field(
        None, description="folder where vectors are kept between runs; null keeps none"
    )


class Fuse(Settings):
    """How views are fused, where an arm does not say otherwise."""

    vectors: Literal["raw", "normalised"] = Field(description="normalised: cut to length 1 before they are fused")
    missing_field: Literal["sentence", "mask"] = Field(
        description="mask: a view whose fields are missing gets weight 0"
    )
    missing_image: Literal["mean", "zero", "default_image", "drop_item"] = Field(
        description="what stands for the image of an item that has none"
    )


def _known_fusion(name: str) -> str:
    if name not in FUSIONS:
        raise fault(f"{name!r} is not known; known: {', '.join(FUSIONS)}")
    return name


class BareArm(Settings):
    """An arm that names no encoders: every dataset of the run gives its features, or its backbones use none."""

    d: int = Field(ge=1, description="width of the backbone's embeddings")


class MadeArm(Fuse, BareArm):
    """An arm whose features are made here."""

    image: Name = Field(description="an encoder")
    text: Name = Field(description="an encoder")
    prompts: Name = Field(description="a prompt set")
    fusion: Annotated[str, AfterValidator(_known_fusion)] = Field(description="how views become one text feature")
    temperature: float | None = Field(None, gt=0, description="τ of equation 2")
    views: Distinct[Name] | None = Field(
        None, description="views of the prompt set, in the order in which they are fused; left out: all of them"
    )


def is_made(raw: Any) -> bool:
    """Whether an arm says how its features are made."""
    return isinstance(raw, Mapping) and bool(raw.keys() & {*MADE_BY, "temperature", "views"})


def as_arm(raw: Any) -> BareArm | MadeArm:
    """An arm by its keys."""
    return (MadeArm if is_made(raw) else BareArm).model_validate(raw)


Arm = Annotated[BareArm | MadeArm, PlainValidator(as_arm), SchemaOf((BareArm, {}), (MadeArm, {}), section=Fuse)]
