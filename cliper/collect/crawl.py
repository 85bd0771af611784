"""Fetch the items' cover images: one job per dataset, polite to servers, and resumed where it stopped.

In:  items (item, asin, image_url); if the dataset has an image_folder, the files there instead of URLs.
Out: images, a row per item with the outcome of its image, and `shards/`: files with the images' bytes.

Each distinct URL is fetched once. A shard is written when all its URLs are done. An interrupted run continues: it
fetches the URLs that are missing and retries transient failures (timeouts, broken connections, 429, 5xx, hosts that
were given up). A run that failed because too few URLs gave an image keeps its images, and the next run retries all
other URLs. A finished run fetches nothing, except for the URLs of shards that are lost or damaged, and with --retry
those of some statuses: `--retry transient,not_an_image`. The paper (section 4, "Datasets") uses Amazon's cover images
but names no crawler.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from itertools import zip_longest
from pathlib import Path
from typing import Any

import polars as pl

from cliper import files, log
from cliper.collect.images.ahead import Source, fetch_ahead
from cliper.collect.images.examiners import Examiners
from cliper.collect.images.fetch import Answer, Fetcher, is_transient
from cliper.collect.images.folder import OwnImages, find_images
from cliper.collect.images.pictures import Verdict
from cliper.collect.images.shards import (
    check_shard,
    no_outcomes,
    read_outcomes,
    read_rows,
    shard_folder,
    shard_name,
)
from cliper.config import decides
from cliper.config.collect import Crawl
from cliper.errors import ConfigError, DataError, unknown
from cliper.layout import At
from cliper.schemas import IMAGE_STATUSES, TABLES

Row = dict[str, Any]  # of a shard
TRANSIENT = "transient"  # among statuses to retry: all that `is_transient` accepts
RETRIED = {TRANSIENT, *IMAGE_STATUSES} - {"ok", "no_url", "placeholder"}
FAILED = "failed.txt"  # lies with the shards' folder after a run with too few images, until one has enough
AT_ONCE, AHEAD = 32, 4  # images per batch to examine; most batches submitted at once
AT_ONCE_BYTES = 2_000_000  # a batch ends early when its images reach this size
HELD = 128_000_000  # bytes of fetched images that wait to be examined; with more, no request starts
GROUP = 32_000_000  # bytes of images in a row group of a shard


def plan(items: pl.DataFrame, *, placeholders: list[str]) -> pl.DataFrame:
    """Find the URL to fetch for every item, or the reason why there is none.

    items    item, image_url (nullable)
    returns  item, url, status: "no_url", "placeholder", or null if the URL is to be fetched
    """
    url = pl.col("image_url").str.strip_chars()
    return items.select(
        "item",
        url.alias("url"),
        pl.when(url.is_null() | (url == ""))
        .then(pl.lit("no_url"))
        .when(url.str.contains_any(placeholders))
        .then(pl.lit("placeholder"))
        .alias("status"),
    )


def name_shards(urls: Sequence[str], settings: Crawl) -> dict[str, Sequence[str]]:
    """Cut URLs into shards: name of the file -> its URLs. Settings that decide what is kept change the names."""
    kept_by = (
        TABLES["image_shard"].version,
        settings.max_bytes,
        settings.max_pixels,
        settings.min_side_px,
        sorted(settings.allow_hosts),
        settings.robots_txt,
    )
    cuts = [urls[start : start + settings.shard_size] for start in range(0, len(urls), settings.shard_size)]
    return {shard_name(number, cut, kept_by): cut for number, cut in enumerate(cuts)}


def build_manifest(planned: pl.DataFrame, outcomes: pl.DataFrame) -> pl.DataFrame:
    """Join every item with the outcome of its URL.

    planned   item, url, status, as `plan` returns it
    outcomes  a row per fetched URL: the columns of image_shard without bytes, and shard
    returns   the table images; shard and row are set where status is "ok"
    """
    is_ok = pl.col("status") == "ok"
    joined = planned.rename({"status": "given"}).join(outcomes, on="url", how="left", maintain_order="left")
    return joined.with_columns(status=pl.coalesce("given", "status")).select(
        "item",
        "status",
        "http_code",
        pl.when(is_ok).then("shard").alias("shard"),
        pl.when(is_ok).then("row").alias("row"),
        "sha256",
        "width",
        "height",
        "detail",
        "format",
        "mode",
        "is_animated",
        "orientation",
    )


def require_share(outcomes: pl.DataFrame, min_ok: float) -> None:
    """Raise DataError if a smaller share of the URLs than the config asks for returned an image."""
    failed = outcomes.filter(pl.col("status") != "ok").select("status", "detail", "url").rows()
    n_ok = len(outcomes) - len(failed)
    if not failed or n_ok / len(outcomes) >= min_ok:
        return
    reason, count = Counter(row[:2] for row in failed).most_common(1)[0]
    example = next(url for *why, url in failed if tuple(why) == reason)
    raise DataError(
        f"{n_ok} of {len(outcomes)} image URLs gave an image, fewer than crawl.min_ok = {min_ok}; most often: "
        f"{reason[0]} ({reason[1]}), {count} times, for example {example}. Fix the cause or lower crawl.min_ok, "
        "then run again: images are kept, all other URLs are fetched again"
    )


def make_row(url: str, answer: Answer) -> Row:
    """A URL's row in the shard, without its number; the bytes are not examined yet."""
    row = {"url": url, "final_url": answer.final_url, "http_code": answer.http_code, "bytes": answer.body}
    return row | Verdict(answer.status, detail=answer.detail)._asdict()


def choose_retries(asked: str | None, manifest: Path) -> Callable[[str, int | None], bool]:
    """Which URLs that have been fetched are fetched again, by their status and HTTP code.

    asked  statuses from the command line

    Raises ConfigError if there is no such status.
    """
    statuses = set(asked.split(",")) if asked else set[str]()
    for status in statuses - RETRIED:
        raise ConfigError(unknown("status to retry", status, RETRIED))
    if manifest.with_name(FAILED).exists():
        statuses = RETRIED
    elif not manifest.exists():
        statuses.add(TRANSIENT)
    return lambda status, code: status in statuses or (TRANSIENT in statuses and is_transient(status, code))


def find_todo(path: Path, urls: Sequence[str], is_retried: Callable[[str, int | None], bool]) -> list[str]:
    """URLs of a shard to fetch: all if the shard is missing or damaged, else those that are retried."""
    if path.is_dir():
        raise DataError(f"{path} is a folder where a file of images belongs; move it away, run again")
    if not path.exists():
        return list(urls)
    try:
        ends = check_shard(path, urls)
    except DataError as error:
        log.warn(f"{path} is damaged, its URLs are fetched again ({error})")
        return list(urls)
    return [url for url, end in zip(urls, ends, strict=True) if is_retried(*end)]


def cut_rows(rows: Iterable[Row], *, n_rows: int | None = None, n_bytes: int) -> Generator[list[Row]]:
    """Cut rows into lists of `n_rows`, shorter ones where their images have `n_bytes` or more."""
    cut, size = list[Row](), 0
    for row in rows:
        cut.append(row)
        size += weigh(row)
        if len(cut) == n_rows or size >= n_bytes:
            yield cut
            cut, size = [], 0
    if cut:
        yield cut


def weigh(row: Row) -> int:
    """Bytes of a row's image."""
    return len(row["bytes"] or b"")


def examine_rows(rows: Iterable[Row], examiners: Examiners) -> Generator[Row]:
    """Yield the fetched rows in order with their verdicts; only images keep their bytes."""
    under_way = deque[tuple[list[Row], Future[list[Verdict | None]]]]()
    for batch in cut_rows(rows, n_rows=AT_ONCE, n_bytes=AT_ONCE_BYTES):
        under_way.append((batch, examiners.submit([row["bytes"] for row in batch])))
        while under_way and (len(under_way) > AHEAD or under_way[0][1].done()):
            yield from judge_rows(*under_way.popleft())
    while under_way:
        yield from judge_rows(*under_way.popleft())


def judge_rows(rows: list[Row], verdicts: Future[list[Verdict | None]]) -> Iterator[Row]:
    """Join rows with their verdicts; only images keep their bytes."""
    for row, verdict in zip(rows, verdicts.result(), strict=True):
        judged = {} if verdict is None else verdict._asdict()
        yield row | judged | {"bytes": row["bytes"] if judged.get("status") == "ok" else None}


def write_shard(path: Path, urls: Sequence[str], todo: Sequence[str], fetched: Iterator[Row]) -> None:
    """Write a shard: fetched rows for the URLs in `todo`, and for the others the rows that it has already.

    Holds the images of a row group in memory.
    """
    asked, known = set(todo), read_rows(path) if len(todo) < len(urls) else iter(())
    rows = (next(fetched) if url in asked else old for url, old in zip_longest(urls, known))
    numbered = ({**row, "row": number} for number, row in enumerate(rows))
    with files.table_writer(path, "image_shard") as write:
        for group in cut_rows(numbered, n_bytes=GROUP):
            write(pl.DataFrame({name: [row[name] for row in group] for name in group[0]}))


def open_images(items: pl.DataFrame, job: decides.Crawl) -> tuple[pl.DataFrame, Source]:
    """The URL of each item, as `plan` returns it, and the source that answers: the web or the dataset's image_folder.

    items  item, asin, image_url
    """
    if job.image_folder is None:
        return plan(items, placeholders=list(job.placeholders)), Fetcher(job.crawl)
    path = Path(job.image_folder).expanduser()
    return find_images(items, path), OwnImages(path, max_bytes=job.crawl.max_bytes)


def fetch_shards(
    shards: Mapping[Path, Sequence[str]],
    settings: Crawl,
    source: Source,
    is_retried: Callable[[str, int | None], bool],
) -> pl.DataFrame:
    """Complete all shards; returns their outcomes."""
    todo = {path: find_todo(path, urls, is_retried) for path, urls in shards.items()}
    urls = [url for part in todo.values() for url in part]
    log.note(f"{len(urls):,} of {sum(map(len, shards.values())):,} images to fetch")
    outcomes = [no_outcomes()]
    with Examiners(max_pixels=settings.max_pixels, min_side_px=settings.min_side_px) as examiners:
        limits = {"n_at_once": settings.threads, "n_ahead": settings.shard_size, "max_bytes": HELD}
        with closing(fetch_ahead(source, urls, **limits)) as answers:
            shown = log.progress(map(make_row, urls, answers), what="images", total=len(urls))
            with closing(examine_rows(shown, examiners)) as rows:
                for path, part in todo.items():
                    if part:
                        write_shard(path, shards[path], part, rows)
                    outcomes.append(read_outcomes(path))
    return pl.concat(outcomes)


def describe(images: pl.DataFrame) -> str:
    """Count the items by status, and the images of unusual kinds, which encoders may read in different ways."""
    counts = Counter(images["status"])
    parts = [f"{counts[status]} {status}" for status in IMAGE_STATUSES if counts[status]]
    kinds = {
        "animated (first frame)": images["is_animated"].sum(),
        "CMYK": images["mode"].eq("CMYK").sum(),
        "palette": images["mode"].eq("P").sum(),
        "turned by EXIF (used as stored)": (images["orientation"] > 1).sum(),
    }
    noted = [f"{count} {kind}" for kind, count in kinds.items() if count]
    return ", ".join(parts) + (f" (among them {', '.join(noted)})" if noted else "")


def run(job: decides.Crawl, at: At) -> None:
    """Fetch the images of one dataset and write the manifest."""
    path, settings = at("images"), job.crawl
    is_retried, failed = choose_retries(at.names.get("retry"), path), path.with_name(FAILED)
    items = files.read_table(at("items"), "items", columns=["item", "asin", "image_url"])
    planned, source = open_images(items, job)
    urls = planned.filter(pl.col("status").is_null())["url"].unique(maintain_order=True).to_list()
    shards = {shard_folder(path) / name: cut for name, cut in name_shards(urls, settings).items()}
    with files.sole_writer(path.parent):
        outcomes = fetch_shards(shards, settings, source, is_retried)
        try:
            require_share(outcomes, settings.min_ok)
        except DataError as error:
            files.write_text(failed, f"{error}\n")
            raise
        images = build_manifest(planned, outcomes)
        files.write_table(path, "images", images)
        failed.unlink(missing_ok=True)
        for stray in set(shard_folder(path).glob("*")) - set(shards):  # of other settings or URLs, or of a killed run
            if stray.is_dir():
                log.warn(f"{stray} is a folder, which crawl does not make; it stays")
            else:
                stray.unlink()
    log.account(f"{at.names['dataset']}: {len(urls)} URLs of {len(items)} items: {describe(images)}")
    if n_failed := sum(is_transient(*end) for end in outcomes.select("status", "http_code").iter_rows()):
        log.note(f"{n_failed} transient failures; --retry {TRANSIENT} fetches their URLs again")
