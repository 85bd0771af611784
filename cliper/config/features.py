"""Sections of the wing `features`: prompts and their views, encoders, encode, fuse, arms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator

from cliper.features.encoders import ENCODERS
from cliper.features.encoders.base_settings import EncoderSettings, Policy
from cliper.features.fusion.rows import FUSIONS
from cliper.settings import (
    HOW,
    Batch,
    Count,
    Derived,
    Device,
    Distinct,
    Few,
    Name,
    Positive,
    SchemaOf,
    Settings,
    Text,
    Width,
    fault,
)
from cliper.variants import Variant

MissingImage = Literal["mean", "zero", "default_image", "drop_item"]
Step = Literal["entities", "tags", "control_characters", "white_space", "line_breaks", "noise", "csv_missing"]
Control = Literal["shuffled_images", "noise", "text_only", "image_only"]
Encoder = Annotated[Variant[EncoderSettings], PlainValidator(ENCODERS.choose), ENCODERS.schema()]
MADE_BY = ("image", "text", "prompts", "fusion")  # keys of an arm whose features are made here


class Prompt(Settings):
    """How values of the metadata are written into prompts, unless a view has its own settings."""

    clean: tuple[Step, ...] = Field(description="steps that clean a value, in this order")
    categories: Literal["all_names", "first_path"] = Field(
        description="all_names: the distinct names of all paths, joined by ', '; first_path: each name and a space"
    )
    min_length: Count = Field(description="characters; a shorter value counts as missing")


class FieldView(Prompt):
    """A view that is a sentence about fields of the metadata."""

    fields: Annotated[tuple[Literal["title", "brand", "categories", "description"], ...], Field(min_length=1)] = Field(
        description="their values fill the blank, joined by one space"
    )
    prompt: str = Field(pattern="___", description="the template; ___ is the blank")
    missing: str = Field(description="the whole text when every field is missing")
    slice_prefix: str | None = Field(
        None,
        description="where a text longer than the context is cut into slices: text before all but the first; "
        "default: the text before ___",
    )


class JoinedView(Settings):
    """A view that joins the prompts of other views."""

    views: Annotated[tuple[Name, ...], Field(min_length=1)] = Field(
        description="views of this set; their prompts fill the blank, joined by one space"
    )
    prompt: str = Field(pattern="___", description="the template; ___ is the blank")
    slice_prefix: str | None = Field(None, description="as in a view of fields")


def as_view(raw: Any) -> FieldView | JoinedView:
    """Check a view: a joined one if it names views, else one of fields."""
    model = JoinedView if isinstance(raw, Mapping) and "views" in raw else FieldView
    return model.model_validate(raw)


View = Annotated[
    FieldView | JoinedView, PlainValidator(as_view), SchemaOf((FieldView, {}), (JoinedView, {}), section=Prompt)
]


class Encode(Settings):
    """How encoders are run."""

    batch_size: Batch = Field(description="images per batch")
    batch_tokens: Batch = Field(description="tokens per batch of texts, padding included")
    threads: Few = Field(description="threads that compute")
    device: Device = Field(description="auto: cuda if there is a GPU")
    precision: Literal["fp32", "bf16", "fp16", "auto"] = Field(
        description="of weights and activations; auto: half precision where it is clearly faster"
    )
    overflow: Policy = Field(description="how a text longer than the encoder's context is encoded")
    ranges: Annotated[Few, HOW] = Field(description="equal slices of a dataset's items; each is one job and one file")
    store: Annotated[Text | None, HOW] = Field(
        None, description="folder that keeps vectors between runs; null: keep none"
    )


def _known_fusion(name: str) -> str:
    if name not in FUSIONS:
        raise fault(f"{name!r} is not known; known: {', '.join(FUSIONS)}")
    return name


FusionName = Annotated[str, AfterValidator(_known_fusion)]


class Fuse(Settings):
    """How views are fused, unless an arm has its own settings."""

    vectors: Literal["raw", "normalised"] = Field(description="normalised: scaled to length 1 before they are fused")
    missing_field: Literal["sentence", "mask"] = Field(
        description="mask: a view whose fields are missing gets weight 0"
    )
    missing_image: MissingImage = Field(description="what replaces the image of an item that has none")


class BareArm(Settings):
    """An arm that names no encoders: every dataset of the run has its features, or its backbones use none."""

    d: Width = Field(description="width of the backbone's embeddings")
    extends: Derived | None = Field(
        None, description="another arm, whose keys this one takes where it has none of its own"
    )


class MadeArm(Fuse, BareArm):
    """An arm whose features are made here."""

    image: Name = Field(description="the encoder of images")
    text: Derived = Field(description="the encoder of texts")
    prompts: Name = Field(description="the prompt set")
    fusion: FusionName = Field(description="how views become one text feature")
    temperature: Positive | None = Field(None, description="τ of equation 2")
    views: Distinct[Name] | None = Field(
        None, description="views of the prompt set, in the order in which they are fused; left out: all of them"
    )
    control: Control | None = Field(
        None,
        description="takes something away, to see what a gain rests on. shuffled_images: each item has the image of "
        "another one, before views are weighed; noise: image and text features are normal noise of the same size; "
        "text_only, image_only: the other features are zeros. Left out: none",
    )


def is_made(raw: Any) -> bool:
    """Whether an arm says how its features are made."""
    return isinstance(raw, Mapping) and bool(raw.keys() & {*MADE_BY, "temperature", "views", "control"})


def as_arm(raw: Any) -> BareArm | MadeArm:
    """Check an arm: its keys say whether its features are made here."""
    return (MadeArm if is_made(raw) else BareArm).model_validate(raw)


Arm = Annotated[BareArm | MadeArm, PlainValidator(as_arm), SchemaOf((BareArm, {}), (MadeArm, {}), section=Fuse)]
