"""Choose items and users of a dataset to look at, and gather what the report shows of them.

In:   items, users, train, test, and valid if lists leave its items out; images and the shards of crawl; features of the
      run's arms; prompts, text_embeddings and view_weights of those made here; the weights.json of the encoders that
      read the texts; the topk of one seed
Out:  explored.json: the arms; the sampled items, each with its fields, picture, prompts word by word, weights and
      closest items; the sampled users, each with what was bought and the lists; of every item that is named, title
      and picture

Half of the items are chosen by chance. The other half are those whose views disagree most, by the first arm that
compares views with images; without such an arm, all are chosen by chance. Text from data is one line, and cut where it
is long, so a script may show it as text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from cliper import files, log
from cliper.collect.images.shards import read_images
from cliper.config import GivenFeatures, MadeFeatures, decides
from cliper.features.exploring import views
from cliper.features.exploring.choosing import choose_items, choose_users, spreads
from cliper.features.exploring.closest import find_closest
from cliper.features.exploring.lists import kept_items, latest_items, lists_of
from cliper.features.exploring.pictures import shrink
from cliper.features.exploring.reading import batches_of, rows_of
from cliper.layout import At
from cliper.media import line

TITLE, FIELD = 200, 1_000  # characters of an item's title, and of a field, that are shown
THUMB_PX, PICTURE_PX = 80, 320  # a thousand films have 1.6 MB of the former


class Pictures(NamedTuple):
    """Of the named items."""

    status: dict[int, str]  # of crawl, undecodable as in encode, not_crawled or not_shown
    thumb: dict[int, str]  # as data URLs, of those that have a picture
    picture: dict[int, str]  # of the sampled ones, larger


def run(job: decides.Explore, at: At) -> None:
    """Choose, gather, write. Raises DataError if a table is missing, FeatureError if tables do not fit each other."""
    dataset, chosen_by = at.names["dataset"], job.explore
    log.note(f"chooses {chosen_by.items} items and {chosen_by.users} users of {dataset}")
    generator = np.random.default_rng(chosen_by.seed)
    arm, disagreeing = find_disagreeing(job, at)
    chosen = choose_items(files.count_rows(at("items"), "items"), disagreeing, chosen_by.items, generator)
    arms = gather_arms(job, at, list(chosen))
    users = gather_users(job, at, generator)
    named = sorted({*chosen, *items_of_users(users), *items_of_arms(arms)})
    rows = {row["item"]: row for row in rows_of(at("items"), "items", named).iter_rows(named=True)}
    pictures = gather_pictures(job, at, named, chosen)
    explored = {
        "dataset": dataset,
        "title": line(job.title),
        "arms": {name: about_arm(made) for name, made in job.arms.items()},
        "items": {
            str(item): {
                "asin": shown(rows[item]["asin"], TITLE),
                "title": shown(rows[item]["title"], TITLE),
                "thumb": pictures.thumb.get(item),
                "status": pictures.status[item],
            }
            for item in named
        },
        "samples": [
            {
                "item": item,
                "why": why,
                "picture": pictures.picture.get(item),
                "fields": fields_of(rows[item]),
                "arms": {name: of_items[item] for name, of_items in arms.items()},
            }
            for item, why in chosen.items()
        ],
        "users": users,
    }
    files.write_json(at("explored"), explored)
    n_disagree = sum(why == "disagree" for why in chosen.values())
    why = f"{n_disagree} whose views disagree most in {arm}" if arm else "all by chance"
    size = at("explored").stat().st_size / 1e6
    log.account(
        f"{dataset}: {len(chosen)} items, {why}; {len(users)} users; {len(named)} items are named, "
        f"{len(pictures.thumb)} of them with a picture; {size:.1f} MB"
    )


def find_disagreeing(job: decides.Explore, at: At) -> tuple[str | None, list[int]]:
    """The first arm that compares views with images, or None, and the items whose views disagree most in it."""
    for arm, made in job.arms.items():
        if isinstance(made, MadeFeatures):
            weights = files.read_table(at("view_weights", arm=arm), "view_weights")
            if weights["similarity"].null_count() < weights.height:
                missing = pl.concat(views.read_encoded(at, made, view, job.ranges) for view in made.views)
                return arm, spreads(weights, missing)["item"].to_list()
    return None, []


def gather_arms(job: decides.Explore, at: At, items: list[int]) -> dict[str, dict[int, dict[str, Any]]]:
    """What is shown of items in each arm: arm -> item -> its views, and its closest items."""
    made = {arm: each for arm, each in job.arms.items() if isinstance(each, MadeFeatures)}
    shown_views = views.gather(job, at, made, items)
    arms = {}
    for arm in job.arms:
        path = at("features", arm=arm)
        own = rows_of(path, "features", items)
        closest = find_closest(own, batches_of(path, "features"), job.explore.neighbours)
        filled = own.select("item", "image_is_filled", "text_is_filled").iter_rows(named=True)
        arms[arm] = {
            (item := row["item"]): {
                "image_is_filled": row["image_is_filled"],
                "text_is_filled": row["text_is_filled"],
                "views": shown_views[arm][item] if arm in made else [],
                "by_image": closest["image"][item],
                "by_text": closest["text"][item],
            }
            for row in filled
        }
    return arms


def gather_users(job: decides.Explore, at: At, generator: np.random.Generator) -> list[dict[str, Any]]:
    """Choose users of the test split by chance; what each bought, what was kept for the test, and the lists."""
    length = job.explore.list_length
    splits = {name: files.read_table(at(name), name) for name in ("train", "test", *["valid"] * job.mask_valid)}
    chosen = choose_users(splits["test"]["user"].to_numpy(), job.explore.users, generator)
    lists = dict[int, dict[str, dict[str, list[int]]]]()
    for cell in job.cells:
        topk = files.read_table(at("topk", **cell._asdict()), "topk").filter(pl.col("user").is_in(chosen))
        for user, items in lists_of(topk, splits.get("valid"), length).items():
            lists.setdefault(user, {}).setdefault(cell.backbone, {})[cell.arm] = items
    ids = dict(
        files.read_table(at("users"), "users").filter(pl.col("user").is_in(chosen)).select("user", "user_id").rows()
    )
    found = []
    for user in chosen:
        train, kept = (splits[name].filter(user=user) for name in ("train", "test"))
        of_user = lists.get(user, {})
        found.append(
            {
                "user": user,
                "user_id": shown(ids[user], TITLE),
                "bought": latest_items(train, length),
                "n_bought": train.height,
                "kept": kept_items(kept, of_user, length),
                "n_kept": kept.height,
                "lists": of_user,
            }
        )
    return found


def items_of_users(users: Iterable[dict[str, Any]]) -> Iterator[int]:
    """Every item that users bought or are recommended."""
    for user in users:
        yield from (*user["bought"], *user["kept"])
        yield from (item for lists in user["lists"].values() for items in lists.values() for item in items)


def items_of_arms(arms: dict[str, dict[int, dict[str, Any]]]) -> Iterator[int]:
    """Every item that is close to a sampled one."""
    for of_items in arms.values():
        for each in of_items.values():
            yield from (item for item, _ in (*each["by_image"], *each["by_text"]))


def gather_pictures(job: decides.Explore, at: At, named: list[int], sampled: Collection[int]) -> Pictures:
    """Shrink the pictures of items, as far as there are any."""
    if not job.is_crawled:
        return Pictures(dict.fromkeys(named, "not_crawled"), {}, {})
    images = files.read_table(at("images"), "images", columns=["item", "status"])
    found = Pictures(dict(images.filter(pl.col("item").is_in(named)).rows()), {}, {})
    if not job.explore.pictures:
        status = {item: "not_shown" if status == "ok" else status for item, status in found.status.items()}
        return found._replace(status=status)
    for item, data in read_images(at("images"), items=named):
        urls = shrink(data, THUMB_PX, *[PICTURE_PX] * (item in sampled))
        if urls is None:
            found.status[item] = "undecodable"
            continue
        found.thumb[item] = urls[0]
        if item in sampled:
            found.picture[item] = urls[1]
    return found


def shown(text: str | None, length: int) -> str | None:
    """Text from data as it is shown.

    >>> shown("a\\nred <lamp>\\u202e", 12), shown("", 12), shown("lamp", 2)
    ('a red <lamp>…', None, 'la…')
    """
    if not text:
        return None
    return line(text[:length]) + "…" * (len(text) > length)


def fields_of(item: dict[str, Any]) -> dict[str, str | None]:
    """The fields that prompts are made of."""
    paths = item["categories"] and "; ".join(" > ".join(path) for path in item["categories"])
    fields = {name: item[name] for name in ("title", "brand", "categories", "description")} | {"categories": paths}
    return {name: shown(value, FIELD) for name, value in fields.items()}


def about_arm(made: MadeFeatures | GivenFeatures) -> dict[str, Any]:
    """How an arm's features were made."""
    if isinstance(made, GivenFeatures):
        return {"given": True}
    how = {name: getattr(made, name) for name in ("text", "image", "fusion", "temperature")}
    return {**how, "image": made.image or made.given, "views": list(made.views)}
