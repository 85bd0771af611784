"""The section "What was run, and on what" of the page."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
import toy
from toy_report import texts

from cliper import files
from cliper.collect.images.fetch import is_transient
from cliper.collect.interactions.splits import SPLITTERS
from cliper.config import Config, GivenFeatures, MadeFeatures, decides
from cliper.config.features import Control, MissingImage, Step
from cliper.features.fusion.rows import FUSIONS
from cliper.layout import At, Layout
from cliper.report.pages import datacard, rendering, run
from cliper.schemas import IMAGE_STATUSES, TABLES

COUNTS = pl.DataFrame(
    {
        "order": [0, 1, 2, 3, 4, 5],
        "step": ["raw", "without duplicates", "5-core, round 1", "train", "valid", "test"],
        "interactions": [1200, 1200, 1000, 800, 100, 100],
        "users": [51, 51, 50, 50, 40, 50],
        "items": [20, 20, 20, 20, 11, 12],
        "density": [0.85, 0.85, 1.0, 0.8, 0.2, 0.2],
        "cold_users": [None, None, None, 0, 0, 0],
        "cold_items": [None, None, None, 0, 2, 3],
    }
)


def image(item: int, status: str, code: int | None = None, **more: Any) -> dict[str, Any]:
    return dict.fromkeys(TABLES["images"].columns) | {"item": item, "status": status, "http_code": code} | more


def usable(item: int, sha256: str, width: int, height: int, form: str, **more: Any) -> dict[str, Any]:
    size = {"width": width, "height": height, "format": form, "is_animated": False}
    return image(item, "ok", 200, sha256=sha256, **size | more)


IMAGES = pl.DataFrame(
    [
        usable(0, "a", 100, 200, "JPEG"),
        usable(1, "a", 100, 200, "JPEG"),
        usable(2, "b", 500, 300, "PNG", orientation=6),
        image(3, "no_url"),
        image(4, "http_error", 503),
        image(5, "http_error", 404),
        image(6, "http_error", 404),
        image(7, "timeout"),
    ],
    infer_schema_length=None,
)
TOKENS = pl.DataFrame(
    {
        "view": ["global", "title"],
        "n_items": [8, 8],
        "n_distinct": [8, 7],
        "min_tokens": [3, 4],
        "median_tokens": [70.0, 9.5],
        "max_tokens": [94, 12],
        "n_truncated": [2, 0],
        "n_chunked": [0, 0],
    }
)


def made(**changed: Any) -> MadeFeatures:
    own = {"image": "bridge", "given": None, "text": "bridge", "prompts": "as_described", "views": ("title", "brand")}
    own |= {"fusion": "sa", "temperature": 0.1, "vectors": "raw", "missing_field": "sentence"}
    return MadeFeatures(**own | {"missing_image": "mean", "control": None} | changed)


WEIGHTS = {"bridge": {"architecture": "Lite0 + MiniLM"}, "minilm": {"architecture": "minilm"}}


def test_each_step_says_what_it_dropped() -> None:
    assert texts(datacard.steps_table(COUNTS).rows) == [
        ["as read", "1,200", "51", "20", "85.000%", ""],
        ["without duplicates", "1,200", "51", "20", "85.000%", "nothing"],
        ["5-core, round 1", "1,000", "50", "20", "100.000%", "200 interactions, 1 user"],
    ]


def test_sizes_are_those_before_the_split() -> None:
    assert datacard.sizes(COUNTS) == [
        ("Users", "50"),
        ("Items", "20"),
        ("Interactions", "1,000"),
        ("Density", "100.000%"),
    ]


def test_the_split_shows_shares_and_what_is_not_in_train() -> None:
    rows = texts(datacard.splits_table(COUNTS).rows)
    assert rows[0] == ["train", "800", "80%", "50", "20", "–", "–"]
    assert rows[2] == ["test", "100", "10%", "50", "12", "0", "3"]


def test_images_are_counted_by_outcome_usable_first_and_what_may_pass_last() -> None:
    found = datacard.pictures(IMAGES)
    assert (found.n_items, found.n_usable) == (8, 3)
    assert [(each.words, each.n, each.share, each.kind) for each in found.statuses] == [
        ("usable", 3, "37.5%", "usable"),
        ("the metadata names no picture", 1, "12.5%", "absent"),
        ("the server answered with an error (404)", 2, "25%", "failed"),
        ("no answer in time", 1, "12.5%", "passing"),
        ("the server answered with an error (503)", 1, "12.5%", "passing"),
    ]


def test_pictures_are_described_by_those_that_are_usable() -> None:
    assert datacard.pictures(IMAGES).facts == [
        ("Distinct pictures", "2 of 3"),
        ("Formats", "JPEG 2, PNG 1"),
        ("Shorter side", "100 to 300 px, median 100"),
        ("Longer side", "200 to 500 px, median 200"),
        ("Turned by EXIF", "1, read as stored"),
    ]
    assert datacard.pictures(IMAGES.filter(pl.col("status") != "ok")).facts == []


@pytest.mark.parametrize("status", IMAGE_STATUSES)
@pytest.mark.parametrize("code", [None, 200, 404, 429, 500, 503])
def test_the_page_and_the_crawl_agree_on_what_may_pass(status: str, code: int | None) -> None:
    assert datacard.is_passing(status, code) == is_transient(status, code)


def test_every_name_of_the_tables_has_words() -> None:
    assert tuple(datacard.STATUSES) == IMAGE_STATUSES
    assert run.FUSIONS.keys() == FUSIONS.keys()
    assert run.CONTROLS.keys() == set(Control.__args__)
    assert datacard.REPLACED_BY.keys() == {*MissingImage.__args__, "sentence", "mask", "as given"}
    assert datacard.CLEANING.keys() == {"reading", *Step.__args__, "min_length"}
    assert datacard.HELD_OUT.keys() == {*SPLITTERS, "given"}


def test_texts_that_were_cut_stand_out() -> None:
    table = datacard.tokens_table([("CLIPER", TOKENS)], {"bridge": 77, "own": None})
    assert texts(table.rows)[0] == ["CLIPER", "global", "8", "3", "70", "94", "2 (25%)", "0"]
    assert [row[6].kind for row in table.rows] == ["number odd", "number"]  # type: ignore[union-attr]
    assert table.notes[1] == "bridge reads at most 77 tokens."


def test_what_is_missing_is_shown_with_what_stands_in_its_place() -> None:
    account = pl.DataFrame(
        {
            "missing": ["brand", "cover image", "every view", "title"],
            "policy": ["mask", "zero", "mask", "mask"],
            "n_items": [4, 2, 0, 1],
        }
    )
    assert texts(datacard.missing_table([("CLIPER", account)], 8).rows) == [
        ["CLIPER", "picture", "2", "25%", "zeros"],
        ["CLIPER", "brand", "4", "50%", "nothing: the text has no weight"],
        ["CLIPER", "title", "1", "12.5%", "nothing: the text has no weight"],
    ]


def cleaning(view: str, field: str, *effects: tuple[str, int, int]) -> pl.DataFrame:
    rows = [(view, field, order, *effect) for order, effect in enumerate(effects)]
    return pl.DataFrame(rows, schema=list(TABLES["cleaning"].columns), orient="row")


def test_a_field_is_counted_once_though_a_joined_view_lists_it_again() -> None:
    title = cleaning("title", "title", ("reading", 0, 2), ("tags", 3, 1), ("noise", 0, 0), ("min_length", 0, 0))
    table = datacard.cleaning_table([("set", title), ("set", title), ("other", title)])
    assert texts(table.rows) == [
        ["other", "title", "missing in the metadata", "0", "2"],
        ["other", "title", "HTML tags removed", "3", "1"],
        ["set", "title", "missing in the metadata", "0", "2"],
        ["set", "title", "HTML tags removed", "3", "1"],
    ]
    assert table.notes == ["2 other steps changed nothing."]


@pytest.mark.parametrize(
    ("features", "sentence"),
    [
        (GivenFeatures("i.npy", "t.npy"), "Image and text features came with the data and are used as they are."),
        (
            made(),
            "bridge (Lite0 + MiniLM) reads both pictures and texts. An item has 2 texts: title, brand. The closer a "
            "text lies to the picture, the more it weighs (τ = 0.1); their weighed sum is used.",
        ),
        (
            made(image=None, given="i.b", text="minilm", views=("joined",), fusion="concat", temperature=None),
            "Image features came with the data; minilm reads the texts. An item has one text (joined), used as it is.",
        ),
        (
            made(text="minilm", fusion="sum", temperature=None, control="noise"),
            "bridge (Lite0 + MiniLM) reads the pictures, minilm the texts. An item has 2 texts: title, brand. The "
            "texts are added up. A control: all features are noise of the same size.",
        ),
    ],
)
def test_an_arm_is_said_in_plain_sentences(features: MadeFeatures | GivenFeatures, sentence: str) -> None:
    assert run.describe_features(features, WEIGHTS) == sentence


def test_datasets_whose_features_are_made_alike_share_a_sentence() -> None:
    features = {"a": made(), "b": made(), "c": GivenFeatures("i.npy", "t.npy")}
    card = run.arm_card("cliper", 64, features, {"a": "A", "b": "B", "c": "C"}, WEIGHTS)
    assert [sentence.partition(":")[0] for sentence in card["sentences"]] == ["On A, B", "On C"]
    assert (card["title"], card["d"]) == ("CLIPER", 64)
    assert len(run.arm_card("cliper", 64, {"a": made()}, {"a": "A"}, WEIGHTS)["sentences"]) == 1


def world() -> Config:
    """Baby on two splits, and a dataset that has its features: without pictures and texts."""
    own = {"kind": "mmrec", "inter": "own.inter", "mirrors": ["unused"]}
    own["features"] = {arm: {"image": "i.npy", "text": "t.npy"} for arm in ("vanilla", "cliper")}
    baby, without = toy.shipped()["datasets"]["baby"], {"min_rating": None, "k_core": None, "split_seed": None}
    source = {"kind": "amazon2014", "category": "Baby", "interactions": "ratings"}
    return toy.settings(
        name="toy",
        run={
            "datasets": ["plain", "plain.split-user_time", "own"],
            "backbones": ["freedom", "lightgcn"],
            "arms": ["vanilla", "cliper"],
            "seeds": [1],
        },
        datasets={
            "plain": {**baby, "title": "<b>Plain</b>", "source": source},
            "own": {**without, "title": "Own", "source": own, "split": "given"},
        },
        arms={"cliper": {"image": "bridge", "text": "bridge", "d": 64}},
    )


def write(config: Config, dataset: str) -> None:
    """What the section reads of a dataset."""
    counts = (
        COUNTS if dataset != "own" else COUNTS[2:].with_columns(step=pl.col("step").replace("5-core, round 1", "given"))
    )
    files.write_table(toy.path(config, "counts", dataset=dataset), "counts", counts)
    blank = dict.fromkeys(TABLES["items"].columns)
    files.write_table(
        toy.path(config, "items", dataset=dataset), "items", pl.DataFrame([blank | {"item": n} for n in range(8)])
    )
    for arm in ("vanilla", "cliper"):
        names, features = {"dataset": dataset, "arm": arm}, config.features(dataset, arm)
        policy = "as given" if isinstance(features, GivenFeatures) else "mean"
        lacks = pl.DataFrame({"missing": ["cover image"], "policy": [policy], "n_items": [2]})
        files.write_table(toy.path(config, "fallbacks", **names), "fallbacks", lacks)
        if isinstance(features, MadeFeatures):
            files.write_table(toy.path(config, "images", dataset=dataset), "images", IMAGES)
            files.write_table(toy.path(config, "token_report", **names), "token_report", TOKENS)
            for view in features.views:
                path = toy.path(config, "cleaning", dataset=dataset, prompts=features.prompts, view=view)
                files.write_table(path, "cleaning", cleaning("title", "title", ("reading", 0, 2)))
            for name in features.encoders:
                note = {"architecture": name.upper(), "context": 77}
                files.write_json(toy.path(config, "weights", encoder=name), note)


@pytest.mark.usefixtures("workdir")
def test_given_features_derived_splits_and_plain_backbones_have_their_place() -> None:
    config = world()
    for dataset in config.run.datasets:
        write(config, dataset)
    found = run.section(decides.of_report(config), At(Layout(config), {}))
    plain, timed, own = found.values["datasets"]
    assert (plain["title"], timed["title"]) == ("<b>Plain</b>", "<b>Plain</b> (split-user_time)")
    assert "each user's latest items" in timed["filtered"]
    assert (plain["pictures"].n_usable, own["pictures"], own["tokens"], own["cleaning"]) == (3, None, None, None)
    assert own["given"] == ["vanilla", "CLIPER"]
    assert texts(own["missing"].rows)[0][2:] == ["2", "25%", "zeros, as given with the data"]
    assert own["filtered"] == "The split came with the data."
    assert found.values["plain_backbones"] == ["LightGCN"]
    assert [tile[0] for tile in found.values["totals"]] == ["3", "2", "2", "1", "9"]
    html = rendering.render([found], title="t", headline="h")
    assert "&lt;b&gt;Plain&lt;/b&gt;" in html
    assert "<b>Plain" not in html
    assert "No pictures were fetched: the image features came with the data." in html


@pytest.mark.usefixtures("workdir")
def test_a_run_without_features_has_a_page() -> None:
    config = toy.settings(name="toy", run={"datasets": ["baby"], "backbones": ["bpr"], "seeds": [1]})
    write(config, "baby")
    found = run.section(decides.of_report(config), At(Layout(config), {}))
    assert "No pictures were fetched: no arm uses any." in rendering.render([found], title="t", headline="h")
