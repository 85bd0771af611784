"""What all encoders' settings share, and what a run knows of an encoder before its class is loaded. No torch here."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cliper.settings import Settings

Policy = Literal["truncate", "chunk_mean", "chunk_sum_as_released"]  # for texts longer than the context
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class EncoderSettings(Settings):
    """Settings of one encoder; an encoder with more of them subclasses this.

    encodes_images, encodes_texts  which towers it has
    packages   models in data/encoders.json whose packages hold its weights
    stands_in  note below the tables: in what way results with this encoder are not the paper's
    """

    encodes_images: ClassVar[bool] = True
    encodes_texts: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = ()
    stands_in: ClassVar[str | None] = None

    overflow: Policy | None = Field(None, description="replaces encode.overflow")

    @property
    def origin(self) -> str | None:
        """URL or path of the weights; None where packages hold them."""
        return None

    @property
    def size(self) -> str:
        """Size of the towers and length of the texts, as data/costs.csv names them."""
        return "other"


def size_of(architecture: str, context: int) -> str:
    """Size of an architecture of open_clip, as data/costs.csv names it.

    >>> size_of("ViT-L-14-quickgelu", 77), size_of("RN50", 77)
    ('ViT-L at 77', 'other')
    """
    return f"ViT-L at {context}" if "ViT-L" in architecture else "other"
