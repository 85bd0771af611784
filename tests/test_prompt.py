from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import toy

from cliper import files, prompt
from cliper.errors import ConfigError
from cliper.layout import locate
from cliper.sources.amazon2014 import ITEMS

ITEM = {"title": "Pram", "brand": "", "categories": "Baby, Strollers", "description": "Light."}


def text_of(view: str, **item: str) -> str:
    return prompt.render(toy.settings().prompt_set("as_described"), view, ITEM | item)[0]


def test_views_read_as_in_the_paper() -> None:
    # Section 4, "Prompt Design"
    assert text_of("title") == "The product title is Pram."
    assert text_of("brand", brand="Acme") == "The product brand is Acme."
    assert text_of("categories") == "The product categories are Baby, Strollers."
    assert text_of("description") == "The product description is Light.."


def test_a_missing_field_says_missing() -> None:
    assert prompt.render(toy.settings().prompt_set("as_described"), "brand", ITEM) == (
        "The product brand is Missing.",
        True,
    )


def test_the_global_view_joins_the_four_prompts_by_one_space() -> None:
    assert text_of("global") == (
        "The product descriptions are The product title is Pram. The product brand is Missing. "
        "The product categories are Baby, Strollers. The product description is Light.."
    )


def test_a_joined_view_is_missing_only_if_all_its_parts_are() -> None:
    views = toy.settings().prompt_set("as_described")
    assert prompt.render(views, "global", ITEM)[1] is False
    assert prompt.render(views, "global", dict.fromkeys(ITEM, ""))[1] is True


def test_vanilla_text_joins_the_fields_that_are_there() -> None:
    views = toy.settings().prompt_set("joined_fields")
    assert prompt.render(views, "joined", ITEM) == ("Pram Baby, Strollers Light.", False)
    assert prompt.render(views, "joined", dict.fromkeys(ITEM, "")) == ("Missing", True)


def test_a_blank_inside_a_value_stays() -> None:
    assert text_of("title", title="Fill ___ in {}") == "The product title is Fill ___ in {}."


def test_white_space_of_a_field_is_one_space() -> None:
    assert prompt.field_text("description", " a\n\n b\t") == "a b"


def test_categories_name_each_level_once_in_their_order() -> None:
    assert prompt.field_text("categories", [["A", " B "], ["A", "", "C"]]) == "A, B, C"
    assert prompt.field_text("categories", None) == ""


def test_the_stage_writes_a_row_for_every_item(workdir: Path) -> None:
    config = toy.settings(**toy.dataset(workdir))
    items = pl.DataFrame([{"asin": "i", "title": "T"}, {"asin": "j"}], schema=ITEMS).with_row_index("item")
    files.write_table(locate(config.root, "items", dataset="toy"), "items", items)
    prompt.run(config, dataset="toy", prompts="as_described", view="title")
    path = locate(config.root, "prompts", dataset="toy", prompts="as_described", view="title")
    assert files.read_table(path, "prompts").rows() == [
        (0, "title", "The product title is T.", False),
        (1, "title", "The product title is Missing.", True),
    ]


def test_an_unknown_view_or_set_is_answered_with_the_known_ones(workdir: Path) -> None:
    config = toy.settings(**toy.dataset(workdir))
    with pytest.raises(ConfigError, match="unknown view of as_described 'colour'; known: brand"):
        prompt.run(config, dataset="toy", prompts="as_described", view="colour")
    with pytest.raises(ConfigError, match="unknown prompt set 'mine'; known: as_described, joined_fields"):
        prompt.run(config, dataset="toy", prompts="mine", view="title")
