"""Show what one item's features were made of: its image, and each view's prompt, similarity and weight.

In:   items, images and the shards of crawl; prompts, text_embeddings and view_weights of the arms
Out:  lines on standard output; with --html FILE also one HTML file, with the image in it

Shows the first of the run's datasets that has the item, and every arm whose features were made here; --dataset and
--arm name one of each. Similarity and weight are those of equation 2 of the paper.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment

from cliper import files, log, media
from cliper.collect.images.shards import read_images
from cliper.config import MadeFeatures
from cliper.errors import ConfigError, DataError
from cliper.features.embeddings.ranges import read_ranges
from cliper.layout import At, Layout

FIELDS = ("title", "brand", "categories", "description", "image_url")
COLUMNS = ("view", "similarity", "weight", "rank", "n_tokens", "text")
MEDIA_TYPES = {b"\xff\xd8": "jpeg", b"\x89P": "png", b"GI": "gif", b"RI": "webp", b"BM": "bmp"}
PAGE = """{% macro table(rows) %}<table>{% for row in rows %}<tr>{% for value in row -%}
<td>{{ cell(value) }}</td>{% endfor %}</tr>
{% endfor %}</table>{% endmacro -%}
<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{{ title }}</title>
<style>body { font: 16px sans-serif; margin: 2em } img { max-width: 20em } td, th { text-align: left;
vertical-align: top; padding: .2em .6em; border-bottom: 1px solid #ccc }</style>
<h1>{{ title }}</h1>
{% if picture %}<img alt="cover" src="data:image/{{ media_type }};base64,{{ picture }}">
{% endif %}{{ table(fields.items()) }}
{% for arm, rows in arms.items() %}<h2>{{ arm }}</h2>
{{ table([columns] + rows) }}
{% endfor %}</html>
"""


class Found(NamedTuple):
    """One item, as the tables of a run have it."""

    dataset: str
    item: dict[str, Any]  # its row of items
    image: dict[str, Any] | None  # its row of images; None where the run crawls none
    arms: dict[str, list[dict[str, Any]]]  # arm -> a row a view, of COLUMNS


def find_item(layout: Layout, datasets: Iterable[str], asin: str) -> tuple[str, dict[str, Any]]:
    """Dataset of an item, the first that has it, and its row. Raises DataError if none has."""
    paths = {dataset: layout.path("items", dataset=dataset) for dataset in datasets}
    for dataset, path in paths.items():
        rows = files.read_table(path, "items").filter(asin=asin)
        if rows.height:
            return dataset, rows.row(0, named=True)
    listed = ", ".join(str(path) for path in paths.values())
    raise DataError(f"no item {asin!r} in {', '.join(paths)}; column asin of {listed} lists all")


def read_views(at: At, made: MadeFeatures, n_ranges: int, item: int) -> list[dict[str, Any]]:
    """One row for each view of an item in one arm: COLUMNS."""
    weights = files.read_table(at("view_weights"), "view_weights")
    by_view = {row["view"]: row for row in weights.filter(item=item).iter_rows(named=True)}
    rows = []
    for view in made.views:
        names = {"encoder": made.text, "prompts": made.prompts, "view": view}
        prompt = files.read_table(at("prompts", **names), "prompts").row(item, named=True)
        paths = at.ranges("text_embeddings", n_ranges, **names)
        encoded = read_ranges(paths, "text_embeddings", columns=["n_tokens"])
        row = by_view[view] | {"n_tokens": encoded["n_tokens"][item], "text": prompt["text"]}
        rows.append({column: row[column] for column in COLUMNS})
    return rows


def collect(layout: Layout, *, asin: str, dataset: str | None, arm: str | None) -> Found:
    """Read all that is shown of one item. Raises DataError if there is no such item, or a table is missing."""
    config = layout.config
    dataset, item = find_item(layout, [dataset] if dataset else config.run.datasets, asin)
    made = {name: config.features(dataset, name) for name in ([arm] if arm else config.arms_in_use)}
    arms = {
        name: read_views(At(layout, {"dataset": dataset, "arm": name}), each, config.encode.ranges, item["item"])
        for name, each in made.items()
        if isinstance(each, MadeFeatures)
    }
    return Found(dataset, item, read_image(layout, dataset, item["item"]), arms)


def read_image(layout: Layout, dataset: str, item: int) -> dict[str, Any] | None:
    """An item's row of images; None where there are none and the run crawls none of the dataset."""
    path = layout.path("images", dataset=dataset)
    is_crawled = any(job.stage == "crawl" and job.names["dataset"] == dataset for job in layout.jobs())
    if not is_crawled and not path.exists():
        return None
    return files.read_table(path, "images").row(item, named=True)


def cell(value: Any) -> str:
    """A value of a row as it is shown.

    >>> [cell(value) for value in (0.25, None, [["Baby", "Prams"]], 3)]
    ['0.2500', '–', 'Baby > Prams', '3']
    """
    if value is None:
        return "–"
    if isinstance(value, list):
        return "; ".join(" > ".join(path) for path in value)
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def about_image(image: dict[str, Any] | None) -> str:
    """One line on the outcome of the image."""
    if image is None:
        return "not crawled"
    size = f", {image['width']} x {image['height']} px" if image["width"] else ""
    return f"{image['status']}{size}{', ' + image['detail'] if image['detail'] else ''}"


def as_lines(found: Found) -> Iterator[str]:
    """The item as text."""
    yield f"{found.item['asin']}: item {found.item['item']} of {found.dataset}"
    yield from (f"  {field}: {cell(found.item[field])}" for field in FIELDS)
    yield f"  image: {about_image(found.image)}"
    for arm, rows in found.arms.items():
        yield f"{arm}: similarity, weight, rank, tokens"
        for row in rows:
            numbers = "  ".join(cell(row[column]) for column in COLUMNS[1:-1])
            yield f"  {row['view']}: {numbers}"
            yield f"    {row['text']}"


def as_page(found: Found, picture: bytes | None) -> str:
    """The item as a page of HTML, the picture inside."""
    return (
        Environment(autoescape=True, finalize=media.html, keep_trailing_newline=True)
        .from_string(PAGE)
        .render(
            title=f"{found.item['asin']} of {found.dataset}",
            picture=picture and base64.b64encode(picture).decode(),
            media_type=picture and MEDIA_TYPES.get(picture[:2], "jpeg"),
            fields={field: found.item[field] for field in FIELDS} | {"image": about_image(found.image)},
            columns=list(COLUMNS),
            arms={arm: [list(row.values()) for row in rows] for arm, rows in found.arms.items()},
            cell=cell,
        )
    )


def run(layout: Layout, *, item: str, dataset: str | None, arm: str | None, html: str | None) -> None:
    """Print one item; write its page where one is asked for. Raises ConfigError if that is no name of a file."""
    if html is not None and Path(html).is_dir():
        raise ConfigError(f"--html {html!r} names no file; name one, such as item.html")
    found = collect(layout, asin=item, dataset=dataset, arm=arm)
    log.show(as_lines(found))
    if html is not None:
        picture, number = None, found.item["item"]
        if found.image is not None:
            manifest = layout.path("images", dataset=found.dataset)
            picture = dict(read_images(manifest, items=[number])).get(number)
        files.write_text(Path(html), as_page(found, picture))
