"""Sections of the wing `collect`: datasets, download, crawl."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, PlainValidator

from cliper.collect.sources import SOURCES
from cliper.collect.sources.base_settings import GivenFeatures as GivenFiles
from cliper.collect.sources.base_settings import SourceSettings
from cliper.settings import HOW, Count, Few, Number, Positive, Seconds, Seed, Settings, Share, Text
from cliper.variants import Variant

Agent = Annotated[str, Field(pattern=r"^[!-~][ -~\u00a0-\u00ff]*$")]  # what a header can hold: RFC 9110, section 5.5
Split = Literal["random", "user_time", "global_time", "given"]


class Dataset(Settings):
    """One dataset: where it comes from, and how it is filtered and split."""

    title: Text = Field(description="name in the tables; for a dataset of the paper, the paper's name")
    source: Annotated[Variant[SourceSettings], PlainValidator(SOURCES.choose), SOURCES.schema()] = Field(
        description="the raw files and where they are: one of our kinds, or a class of your own"
    )
    split: Split | None = Field(
        None,
        description="which interactions are held out, see cliper/collect/interactions/splits.py; "
        "`given`, or left out, if the source has its own split",
    )
    min_rating: Number | None = Field(None, description="interactions rated lower are dropped")
    k_core: Count | None = Field(None, description="every user and every item keeps at least k interactions")
    split_seed: Seed | None = Field(None, description="seed of the split, and of the order within one second")
    drop_items_without_metadata: bool | None = Field(
        None, description="whether items of which every field is missing are dropped, before the k-core; default: kept"
    )
    image_folder: Text | None = Field(
        None, description="folder of images named by item: <asin>.jpg, .png, …; its subfolders are searched too"
    )

    def given(self, arm: str) -> GivenFiles | None:
        """Files of features that come with the dataset for an arm; None where features are made here."""
        return self.source.settings.given_features.get(arm)

    def raw_files(self, given: Iterable[GivenFiles]) -> list[str]:
        """Names of all raw files, those with given features among them."""
        names = (name for found in given for name in (found.image, found.text) if name)
        return [*self.source.settings.files.values(), *names]


class Download(Settings):
    """How raw files are fetched."""

    timeout_s: Seconds = Field(
        description="longest time until a server answers, and for each 1,000 x timeout_s bytes of a file"
    )
    attempts: Count = Field(description="tries per mirror")
    lock: Annotated[str, Field(pattern=r"\.json$")] | None = Field(
        None, description="file that records the sha256 of each file at its first fetch; null: none"
    )


class Crawl(Settings):
    """How images are fetched and which are kept."""

    user_agent: Annotated[Agent, HOW] = Field(description="the crawler's name in its requests, in Latin-1")
    allow_hosts: tuple[Text, ...] = Field(description="host or host:port that may be private or loopback")
    threads: Annotated[Few, HOW] = Field(description="requests in flight at once")
    connections_per_host: Annotated[Few, HOW] = Field(description="requests in flight at once to one host")
    requests_per_s: Annotated[Positive, HOW] = Field(description="per host")
    timeout_s: Annotated[Seconds, HOW] = Field(description="longest time without data from a server")
    deadline_s: Annotated[Seconds, HOW] = Field(description="longest time for one URL, all attempts together")
    attempts: Annotated[Count, HOW] = Field(
        description="tries per URL; timeouts, broken connections, 429 and 5xx are tried again"
    )
    give_up_after: Annotated[Count, HOW] = Field(
        description="transient failures in a row after which a host gets no more requests in this run"
    )
    robots_txt: bool = Field(description="whether robots.txt is fetched and obeyed")
    max_bytes: Count = Field(description="largest file of an image")
    max_pixels: Count = Field(description="largest width x height of an image")
    min_side_px: Count = Field(description="smallest width and height of an image")
    shard_size: Count = Field(description="URLs per shard (a file of images)")
    min_ok: Annotated[Share, HOW] = Field(
        description="smallest share of image URLs that must return an image; below it, crawl fails"
    )


def is_url(place: str) -> bool:
    """Whether a mirror or a source of weights is a URL, not a path on this machine."""
    return place.startswith(("http://", "https://"))
