"""The stage that chooses items and users to look at, and what it gathers of them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import toy
from PIL import Image

from cliper import config, files
from cliper.collect.images.shards import shard_folder
from cliper.collect.sources.records import ITEMS
from cliper.config import Config
from cliper.errors import DataError, FeatureError
from cliper.features.encoders import loading
from cliper.features.exploring.choosing import choose_items, choose_users, spreads
from cliper.features.exploring.closest import find_closest
from cliper.features.exploring.lists import kept_items, latest_items, lists_of
from cliper.features.exploring.pictures import shrink
from cliper.features.exploring.words import N_CHARACTERS, N_WORDS, Words, count_words
from cliper.schemas import TABLES

TOY = {"dataset": "toy"}
HOSTILE = "<script>alert('1')</script>\n\u202eevil\x1b[31m\" onload="
SEEN = "<script>alert('1')</script> \\u202eevil\\x1b[31m\" onload="
TITLES = [HOSTILE, "a red lamp", "lamp", None, "a lamp of glass", "x"]  # item by item
CONTEXT = 12  # of the toy encoder: a text's letters, and two marks
SHOWN = {"items": 6, "neighbours": 2, "users": 2, "list_length": 3, "pictures": True, "seed": 1}


def by_letters(texts: list[str]) -> list[int]:
    """A token for each letter, and the marks of start and end."""
    return [len("".join(text.split())) + 2 for text in texts]


def encoded(image: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    written = io.BytesIO()
    image.save(written, kind, **how)
    return written.getvalue()


def decoded(url: str) -> Image.Image:
    head, _, data = url.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def rows_of(kind: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Rows of a table, absent columns null."""
    return pl.DataFrame([dict.fromkeys(TABLES[kind].columns) | row for row in rows], infer_schema_length=None)


def features() -> pl.DataFrame:
    """Of six items: the image of item 2 and the text of item 3 are filled, the image of item 5 is a row of zeros."""
    item = np.arange(6, dtype=np.int32)
    image = np.array([[1, 0], [0.6, 0.8], [0.8, 0.6], [0, 1], [2, 0], [0, 0]], np.float32)
    text = np.array([[1, 0], [1, 1], [0, 1], [1, 0], [0, 2], [1, 0]], np.float32)
    flags = {"image_is_filled": item == 2, "text_is_filled": item == 3}
    return pl.DataFrame({"item": item, "image": image, "text": text, **flags})


def view_weights() -> pl.DataFrame:
    """Similarities of brand and title, item by item; item 2 has no image of its own, so no ranks."""
    similarity = [[0.1, 0.5], [0.2, 0.3], [-0.9, 0.9], [0.9, -0.9], [0.1, 0.8], [0.3, 0.3]]
    rank = [None if item == 2 else place for item in range(6) for place in (2, 1)]
    table = {"item": np.repeat(np.arange(6), 2), "view": ["brand", "title"] * 6, "similarity": np.ravel(similarity)}
    return pl.DataFrame(table | {"weight": [0.25, 0.75] * 6, "rank": rank})


def write_catalogue(write: Callable[..., None], asins: list[str | None], titles: list[str | None]) -> None:
    items: list[dict[str, Any]] = [{"asin": asin, "title": title} for asin, title in zip(asins, titles, strict=True)]
    items[1]["categories"] = [["Home", "Lamps"], ["Gifts"]]
    write("items", pl.DataFrame(items, schema=ITEMS).with_row_index("item"))
    write("users", pl.DataFrame({"user": [0, 1, 2], "user_id": ["A\u202e0", "A1", "A2"]}))
    bought = [(0, 0, 10), (0, 1, 30), (0, 2, 20), (0, 4, 20), (1, 3, 5), (2, 1, None), (2, 2, None)]
    splits = {"train": bought, "valid": [(0, 5, 40), (2, 3, None)], "test": [(0, 3, 50), (2, 0, None), (2, 5, None)]}
    for name, rows in splits.items():
        write(name, pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row"))


def write_lists(write: Callable[..., None], backbone: str, arm: str, lists: dict[int, list[int]]) -> None:
    rows = [(user, rank, item, 1.0) for user, items in lists.items() for rank, item in enumerate(items, 1)]
    table = pl.DataFrame(rows, schema=list(TABLES["topk"].columns), orient="row")
    write("topk", table, backbone=backbone, arm=arm, seed=1)


def write_pictures(settings: Config, write: Callable[..., None]) -> None:
    """Items 0, 1 and 4 have a picture; that of item 1 cannot be decoded."""
    wide, small = encoded(Image.new("RGB", (400, 200), "red")), encoded(Image.new("RGB", (8, 9), "blue"))
    pictures = {0: wide, 1: wide[:60], 4: small}
    ok = [
        {"item": item, "status": "ok", "shard": "s.parquet", "row": row, "sha256": sha256(data).hexdigest()}
        for row, (item, data) in enumerate(pictures.items())
    ]
    missing = [{"item": 2, "status": "http_error"}, {"item": 3, "status": "no_url"}, {"item": 5, "status": "too_small"}]
    write("images", rows_of("images", sorted(ok + missing, key=lambda row: int(row["item"]))))
    shard = shard_folder(toy.path(settings, "images", **TOY)) / "s.parquet"
    bodies = [{"row": row, "url": "u", "status": "ok", "bytes": data} for row, data in enumerate(pictures.values())]
    files.write_table(shard, "image_shard", rows_of("image_shard", bodies))


def write_texts(write: Callable[..., None], view: str, texts: list[str | None], **changed: Any) -> None:
    """Prompts of a view, null where its field is missing, and what encode notes of them."""
    prompts = pl.DataFrame({"item": range(6), "text": [text or "missing" for text in texts]}).with_columns(
        view=pl.lit(view), is_missing=pl.Series([text is None for text in texts])
    )
    names = {"prompts": "as_described", "view": view}
    write("prompts", prompts, **names)
    n_tokens = by_letters(prompts["text"].to_list())
    noted: dict[str, Any] = {
        "text_sha256": ["0"] * 6,
        "embedding": np.ones((6, 2), np.float32),
        "n_tokens": n_tokens,
        "n_chunks": [1] * 6,
        "truncated": [n > CONTEXT for n in n_tokens],
    }
    table = prompts.drop("text").with_columns(pl.Series(name, each) for name, each in (noted | changed).items())
    write("text_embeddings", table, {"context": CONTEXT}, encoder="bridge", range=0, ranges=1, **names)


def write_world(folder: Path, **overlay: Any) -> tuple[Config, Callable[..., None]]:
    """Six items and three users; FREEDOM with the arm cliper, of the views title and brand, and LightGCN."""
    arm = {"image": "bridge", "text": "bridge", "prompts": "as_described", "views": ["title", "brand"]}
    run = {"run": {"arms": ["cliper"], "backbones": ["freedom", "lightgcn"]}, "arms": {"cliper": arm}}
    own = config.lay_over(run | {"explore": dict(SHOWN)}, overlay)
    settings = toy.settings(**config.lay_over(toy.dataset(folder), own))

    def write(kind: str, table: pl.DataFrame, metadata: dict[str, Any] | None = None, **names: Any) -> None:
        files.write_table(toy.path(settings, kind, **TOY, **names), kind, table, metadata=metadata)

    write_catalogue(write, ["a0", "a1", "a2", "a3", "a4", "a5"], TITLES)
    write_pictures(settings, write)
    write_texts(write, "title", TITLES)
    write_texts(write, "brand", ["by Al"] * 6)
    write("features", features(), arm="cliper")
    write("view_weights", view_weights(), arm="cliper")
    write_lists(write, "freedom", "cliper", {0: [5, 3, 1, 0], 1: [0], 2: [4, 3, 5, 0]})
    write_lists(write, "lightgcn", "content_free", {0: [3], 1: [0], 2: [0, 4, 3, 5]})
    return settings, write


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder's tokens are letters."""
    monkeypatch.setattr(loading, "load_counter", lambda *_, name: by_letters)


def explored(settings: Config) -> dict[str, Any]:
    toy.run("explore", settings, **TOY)
    found: dict[str, Any] = json.loads(toy.path(settings, "explored", **TOY).read_text(encoding="utf-8"))
    return found


def by_item(found: dict[str, Any]) -> dict[int, dict[str, Any]]:
    return {sample["item"]: sample for sample in found["samples"]}


@pytest.mark.usefixtures("counted")
def test_samples_users_and_arms_are_gathered(workdir: Path) -> None:
    found = explored(write_world(workdir)[0])
    assert (found["dataset"], found["title"]) == ("toy", "Toy")
    arm = {"text": "bridge", "image": "bridge", "fusion": "sa", "temperature": 0.1, "views": ["title", "brand"]}
    assert found["arms"] == {"cliper": arm}
    assert found["users"] == [
        {
            "user": 0,
            "user_id": "A\\u202e0",
            "bought": [1, 2, 4],  # the latest first; of the same time, the smaller number
            "n_bought": 4,
            "kept": [3],
            "n_kept": 1,
            "lists": {"freedom": {"cliper": [5, 3, 1]}, "lightgcn": {"content_free": [3]}},
        },
        {
            "user": 2,
            "user_id": "A2",
            "bought": [1, 2],
            "n_bought": 2,
            "kept": [0, 5],
            "n_kept": 2,
            "lists": {"freedom": {"cliper": [4, 3, 5]}, "lightgcn": {"content_free": [0, 4, 3]}},
        },
    ]
    assert sorted(by_item(found)) == [int(item) for item in found["items"]] == [0, 1, 2, 3, 4, 5]


@pytest.mark.usefixtures("counted")
def test_a_view_is_shown_word_by_word_with_what_was_cut(workdir: Path) -> None:
    sample = by_item(explored(write_world(workdir)[0]))[4]
    title, brand = sample["arms"]["cliper"]["views"]
    assert title == {
        "view": "title",
        "similarity": 0.8,
        "weight": 0.75,
        "rank": 1,
        "is_missing": False,
        "n_tokens": 14,  # 12 letters and two marks
        "n_chunks": 1,
        "truncated": True,
        "words": [["a", 1], ["lamp", 4], ["of", 2], ["glass", 5]],
        "n_words": 4,
        "n_read": 3,
    }
    assert (brand["view"], brand["truncated"], brand["n_read"]) == ("brand", False, 2)


@pytest.mark.usefixtures("counted")
def test_closest_items_are_shown_and_filled_ones_have_none(workdir: Path) -> None:
    samples = by_item(explored(write_world(workdir)[0]))
    shown = {item: sample["arms"]["cliper"] for item, sample in samples.items()}
    assert (shown[0]["by_image"], shown[0]["by_text"]) == ([[4, 1.0], [1, 0.6]], [[5, 1.0], [1, 0.7071]])
    assert (shown[2]["image_is_filled"], shown[2]["by_image"]) == (True, [])
    assert (shown[3]["text_is_filled"], shown[3]["by_text"]) == (True, [])


@pytest.mark.usefixtures("counted")
def test_what_a_shop_wrote_is_one_line_without_controls(workdir: Path) -> None:
    settings, _ = write_world(workdir)
    found = explored(settings)
    assert found["items"]["0"]["title"] == by_item(found)[0]["fields"]["title"] == SEEN
    words = [word for word, _ in by_item(found)[0]["arms"]["cliper"]["views"][0]["words"]]
    assert words == ["<script>alert('1')</scri", "pt>", '\\u202eevil\\x1b[31m"', "onload="]
    written = toy.path(settings, "explored", **TOY).read_text(encoding="utf-8")
    assert not [sign for sign in ("\u202e", "\x1b", "\\u001b") if sign in written]
    fields = by_item(found)[1]["fields"]
    assert fields == {"title": "a red lamp", "brand": None, "categories": "Home > Lamps; Gifts", "description": None}


@pytest.mark.usefixtures("counted")
def test_pictures_are_shrunk_and_missing_or_broken_ones_say_why(workdir: Path) -> None:
    found = explored(write_world(workdir)[0])
    statuses = {int(item): (row["status"], row["thumb"] is not None) for item, row in found["items"].items()}
    assert statuses == {
        0: ("ok", True),
        1: ("undecodable", False),
        2: ("http_error", False),
        3: ("no_url", False),
        4: ("ok", True),
        5: ("too_small", False),
    }
    samples = by_item(found)
    assert {item for item, sample in samples.items() if sample["picture"]} == {0, 4}
    assert decoded(found["items"]["0"]["thumb"]).size == (80, 40)
    assert decoded(samples[0]["picture"]).size == (320, 160)
    assert decoded(samples[4]["picture"]).size == (8, 9)  # not enlarged


@pytest.mark.usefixtures("counted")
def test_a_page_to_be_published_has_no_pictures(workdir: Path) -> None:
    found = explored(write_world(workdir, explore={"pictures": False})[0])
    assert "data:image" not in json.dumps(found)
    statuses = [found["items"][str(item)]["status"] for item in range(6)]
    assert statuses == ["not_shown", "not_shown", "http_error", "no_url", "not_shown", "too_small"]


@pytest.mark.usefixtures("counted")
def test_half_are_the_items_whose_views_disagree_most(workdir: Path) -> None:
    """Spreads: 0.7 of item 4, 0.4 of 0, 0.1 of 1, 0 of 5. Item 2 has no image, item 3 no title."""
    settings, _ = write_world(workdir, explore={"items": 2})
    chance, disagree = explored(settings)["samples"]
    assert (chance["why"], disagree["why"]) == ("chance", "disagree")
    assert disagree["item"] == (0 if chance["item"] == 4 else 4)


@pytest.mark.usefixtures("counted")
def test_equal_inputs_give_equal_bytes_and_another_seed_others(workdir: Path) -> None:
    written = []
    for seed in (1, 1, 2, 3, 4):
        settings, _ = write_world(workdir, explore={"items": 2, "seed": seed})
        toy.run("explore", settings, **TOY)
        written.append(toy.path(settings, "explored", **TOY).read_bytes())
    assert written[0] == written[1]
    assert len(set(written)) > 1


@pytest.mark.usefixtures("counted")
def test_validation_items_are_left_out_of_lists_that_leave_them_out(workdir: Path) -> None:
    found = explored(write_world(workdir, evaluate={"mask_valid": True})[0])
    lists = [user["lists"]["freedom"]["cliper"] for user in found["users"]]
    assert lists == [[3, 1, 0], [4, 5, 0]]  # without items 5 and 3


@pytest.mark.parametrize(("changed", "n"), [({"n_tokens": [9] * 6}, 9), ({"truncated": [False] * 6}, 47)])
@pytest.mark.usefixtures("counted")
def test_other_tokens_than_were_encoded_are_refused(workdir: Path, changed: dict[str, Any], n: int) -> None:
    settings, write = write_world(workdir)
    write_texts(write, "title", TITLES, **changed)
    with pytest.raises(FeatureError, match=rf"item 0 has {n} tokens, but bridge counts \d+ in its prompt; encode it"):
        toy.run("explore", settings, **TOY)


@pytest.mark.usefixtures("counted")
def test_all_words_of_slices_were_read(workdir: Path) -> None:
    settings, write = write_world(workdir)
    write_texts(write, "title", TITLES, n_chunks=[3] * 6, truncated=[False] * 6)
    view = by_item(explored(settings))[4]["arms"]["cliper"]["views"][0]
    assert (view["n_chunks"], view["n_read"], view["n_words"]) == (3, 4, 4)


@pytest.mark.usefixtures("counted")
def test_a_missing_table_names_the_command_that_makes_it(workdir: Path) -> None:
    settings, _ = write_world(workdir)
    toy.path(settings, "view_weights", **TOY, arm="cliper").unlink()
    with pytest.raises(DataError, match=r"Run: python -m cliper fuse"):
        toy.run("explore", settings, **TOY)


def test_given_features_of_items_without_a_name_are_shown(workdir: Path) -> None:
    """No image, no prompt, no asin, no title: only what lies closest, and the lists."""
    given = {"cliper": {"image": "image_feat.npy", "text": "text_feat.npy"}}
    source = {"kind": "mmrec", "inter": "x.inter", "mirrors": ["unused"], "features": given}
    own = {"title": "Toy", "source": source, "min_rating": None, "k_core": None, "split": None, "split_seed": None}
    run = {"datasets": ["toy"], "arms": ["cliper"], "backbones": ["freedom"], "seeds": [1]}
    settings = toy.settings(name="toy", run=run, datasets={"toy": own}, explore=dict(SHOWN))

    def write(kind: str, table: pl.DataFrame, **names: Any) -> None:
        files.write_table(toy.path(settings, kind, **TOY, **names), kind, table)

    write_catalogue(write, [None] * 6, [None] * 6)
    write("features", features(), arm="cliper")
    write_lists(write, "freedom", "cliper", {0: [5, 3], 2: [4]})
    found = explored(settings)
    assert found["arms"] == {"cliper": {"given": True}}
    assert found["items"]["2"] == {"asin": None, "title": None, "thumb": None, "status": "not_crawled"}
    assert {sample["why"] for sample in found["samples"]} == {"chance"}
    shown = by_item(found)[0]
    assert (shown["picture"], shown["arms"]["cliper"]["views"]) == (None, [])
    assert shown["arms"]["cliper"]["by_image"] == [[4, 1.0], [1, 0.6]]


def test_closest_items_equal_a_loop_over_all_pairs() -> None:
    generator = np.random.default_rng(0)
    n = 50
    image, text = (generator.integers(-2, 3, (n, 3)).astype(np.float32) for _ in range(2))  # many ties
    flags = {f"{name}_is_filled": generator.random(n) < 0.2 for name in ("image", "text")}
    table = pl.DataFrame({"item": np.arange(n, dtype=np.int32), "image": image, "text": text, **flags})
    batches = [table[:7], table[7:40], table[40:]]
    found = find_closest(table[::9], batches, 5)
    for name, vectors in (("image", image), ("text", text)):
        own = ~flags[f"{name}_is_filled"] & vectors.any(axis=1)
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)
        for item in range(0, n, 9):
            others = [other for other in range(n) if own[item] and own[other] and other != item]
            cosines = {other: round(float(units[item] @ units[other]), 6) for other in others}
            expected = sorted(others, key=lambda other: (-cosines[other], other))[:5]
            assert [other for other, _ in found[name][item]] == expected
            assert dict(found[name][item]) == pytest.approx({other: cosines[other] for other in expected}, abs=1e-4)


def test_items_in_one_direction_are_in_the_order_of_their_numbers() -> None:
    """Their lengths differ, so float32 rounds their cosines to values that differ in the last bits."""
    length = np.random.default_rng(0).uniform(0.1, 9, 40).astype(np.float32)[:, None]
    vectors = length * np.array([1, 2, 3, 5, 7], np.float32)
    flags = {f"{name}_is_filled": [False] * 40 for name in ("image", "text")}
    table = pl.DataFrame({"item": np.arange(40, dtype=np.int32), "image": vectors, "text": vectors, **flags})
    found = find_closest(table[:1], [table], 39)
    assert [item for item, _ in found["image"][0]] == list(range(1, 40))


def test_the_spread_is_that_of_an_items_own_ranked_views() -> None:
    missing = pl.DataFrame({"item": np.repeat(np.arange(6), 2), "view": ["title", "brand"] * 6})
    missing = missing.with_columns(is_missing=(pl.col("item") == 3) & (pl.col("view") == "title"))
    found = spreads(view_weights(), missing)
    assert found["item"].to_list() == [4, 0, 1, 5]
    assert found["spread"].to_list() == pytest.approx([0.7, 0.4, 0.1, 0])


@pytest.mark.parametrize("seed", range(5))
def test_no_item_is_chosen_twice(seed: int) -> None:
    chosen = choose_items(20, [*range(19, -1, -1)], 8, np.random.default_rng(seed))
    whys = list(chosen.values())
    assert (len(chosen), whys.count("chance"), whys.count("disagree")) == (8, 4, 4)
    assert [item for item, why in chosen.items() if why == "disagree"] == [
        item for item in range(19, -1, -1) if chosen.get(item) != "chance"
    ][:4]
    assert len(choose_items(20, [3], 8, np.random.default_rng(seed))) == 8  # chance fills the rest
    assert sorted(choose_items(3, [0], 8, np.random.default_rng(seed))) == [0, 1, 2]


def test_fewer_users_than_are_asked_for_are_all() -> None:
    assert choose_users(np.array([5, 2, 2, 9]), 4, np.random.default_rng(0)) == [2, 5, 9]
    assert len(choose_users(np.arange(100), 4, np.random.default_rng(0))) == 4


def test_lists_bought_and_kept_items_are_few() -> None:
    topk = pl.DataFrame({"user": [1, 1, 1, 2], "rank": [1, 2, 3, 1], "item": [7, 8, 9, 7]})
    assert lists_of(topk, None, 2) == {1: [7, 8], 2: [7]}
    assert lists_of(topk, pl.DataFrame({"user": [1], "item": [7]}), 2) == {1: [8, 9], 2: [7]}
    times = pl.DataFrame({"item": [1, 2, 3, 4], "timestamp": [None, 5, 9, 5]})
    assert latest_items(times, 3) == [3, 2, 4]
    lists = {"freedom": {"cliper": [6, 9]}}
    assert kept_items(pl.DataFrame({"item": [1, 2, 6, 9]}), lists, 3) == [6, 9, 1]
    assert kept_items(pl.DataFrame({"item": [1, 6, 9]}), lists, 1) == [6, 9]  # every hit is shown


def test_a_word_that_shortens_a_text_adds_no_tokens() -> None:
    """As with a tokenizer that knows `new york` as one token: lengths 3, 4, 3, 5 after each word."""
    lengths = {"": 2, "in": 3, "in new": 4, "in new york": 3, "in new york city": 5}
    (found,) = count_words(["in new york city"], lambda texts: [lengths[text] for text in texts], context=4)
    assert found == Words([("in", 1), ("new", 1), ("york", 0), ("city", 1)], 4, 3, 5)


def test_a_long_text_costs_little_and_says_how_many_words_there_are() -> None:
    texts = ["lamp " * 4_000, "漢" * 20_000, "", " \n"]
    signs = list[int]()

    def count(batch: list[str]) -> list[int]:
        signs.extend(map(len, batch))
        return by_letters(batch)

    lamps, chinese, *empty = count_words(texts, count, context=CONTEXT)
    assert (len(lamps.words), lamps.n_words, lamps.n_fitting, lamps.n_tokens) == (N_WORDS, 4_000, 2, 16_002)
    assert chinese.n_words == -(-20_000 // 24)  # pieces of 24 signs
    assert empty == [Words([], 0, 0, 2)] * 2
    assert sum(signs) < 2 * 20_000 + N_WORDS * N_CHARACTERS


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.new("P", (30, 20))),
        encoded(Image.new("RGBA", (30, 20), (255, 0, 0, 0))),
        encoded(Image.new("CMYK", (30, 20)), "JPEG"),
        encoded(Image.new("L", (30, 20)), "GIF", save_all=True, append_images=[Image.new("L", (30, 20), 9)]),
        encoded(Image.new("RGB", (30, 20)), "JPEG", icc_profile=bytes(50_000)),
    ],
    ids=["palette", "transparent", "cmyk", "animated", "profile"],
)
def test_every_kind_of_picture_becomes_a_small_one(data: bytes) -> None:
    (url,) = shrink(data, 15) or [""]
    picture = decoded(url)
    assert (picture.size, picture.mode) == ((15, 10), "RGB")
    assert len(url) < 1_000


def test_a_picture_is_shown_as_encoders_see_it() -> None:
    """They do not turn a picture as EXIF says: neither is the shown one."""
    exif = Image.Exif()
    exif[0x0112] = 6
    (url,) = shrink(encoded(Image.new("RGB", (30, 20)), "JPEG", exif=exif), 15) or [""]
    assert decoded(url).size == (15, 10)


@pytest.mark.parametrize("data", [b"", b"<html>", encoded(Image.new("RGB", (90, 90)), "JPEG")[:200]])
def test_a_broken_picture_is_none(data: bytes) -> None:
    assert shrink(data, 15) is None
