"""Sections of the wing `collect`: datasets, download, crawl."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, PlainValidator

from cliper.collect.sources import SOURCES
from cliper.collect.sources.base_settings import GivenFeatures as GivenFiles
from cliper.collect.sources.base_settings import SourceSettings
from cliper.settings import HOW, Settings, Text
from cliper.variants import Variant

Split = Literal["random", "user_time", "global_time", "given"]


class Dataset(Settings):
    """One dataset: where it comes from and how it is cut."""

    title: Text = Field(description="name in the tables; that of the paper's dataset where it is one")
    source: Annotated[Variant[SourceSettings], PlainValidator(SOURCES.choose), SOURCES.schema()] = Field(
        description="what the raw files are and where they lie: a kind of ours, or a class of your own"
    )
    split: Split | None = Field(
        None,
        description="which interactions are held out, see cliper/collect/interactions/splits.py; "
        "given, or left out, where the source has a split of its own",
    )
    min_rating: float | None = Field(None, description="interactions rated lower are dropped")
    k_core: int | None = Field(None, ge=1, description="fewest interactions of a user and of an item")
    split_seed: int | None = Field(None, ge=0, description="seed of the split, and of the order within one second")
    image_folder: Text | None = Field(None, description="folder of images named by item: <asin>.jpg, .png, …")

    def given(self, arm: str) -> GivenFiles | None:
        """Files of features that come with the dataset for an arm; None where features are made here."""
        return self.source.settings.given_features.get(arm)

    def raw_files(self, arms: Iterable[str]) -> list[str]:
        """Names of all raw files that a run with these arms reads."""
        given = [found for arm in arms if (found := self.given(arm))]
        names = (name for found in given for name in (found.image, found.text) if name)
        return [*self.source.settings.files.values(), *names]


class Download(Settings):
    """How raw files are fetched."""

    timeout_s: float = Field(gt=0, description="longest silence of a server")
    attempts: int = Field(ge=1, description="tries a mirror")
    lock: Annotated[str, Field(pattern=r"\.json$")] | None = Field(
        None, description="file that records each fetched file's sha256 at first sight; null: none"
    )


class Crawl(Settings):
    """How images are fetched and which are kept."""

    user_agent: Annotated[Text, HOW] = Field(description="what the crawler calls itself")
    allow_hosts: tuple[Text, ...] = Field(description="host or host:port that may be private or loopback")
    threads: Annotated[int, HOW] = Field(ge=1, description="requests under way at once")
    connections_per_host: Annotated[int, HOW] = Field(ge=1, description="requests under way at once, of one host")
    requests_per_s: Annotated[float, HOW] = Field(gt=0, description="per host")
    timeout_s: Annotated[float, HOW] = Field(gt=0, description="longest silence of a server")
    deadline_s: Annotated[float, HOW] = Field(gt=0, description="longest time for one URL, all attempts together")
    attempts: Annotated[int, HOW] = Field(ge=1, description="for timeouts, broken connections, 429 and 5xx")
    give_up_after: Annotated[int, HOW] = Field(ge=1, description="transient failures of a host in a row, then no more")
    robots_txt: bool = Field(description="whether robots.txt is asked for and obeyed")
    max_bytes: int = Field(ge=1, description="of an image")
    max_pixels: int = Field(ge=1, description="of an image")
    min_side_px: int = Field(ge=1, description="of an image")
    shard_size: int = Field(ge=1, description="URLs a shard")
    min_ok: Annotated[float, HOW] = Field(
        ge=0, le=1, description="smallest share of image URLs that must answer with an image"
    )


def is_url(place: str) -> bool:
    """Whether a mirror or a source of weights is a URL, not a path on this machine."""
    return place.startswith(("http://", "https://"))
