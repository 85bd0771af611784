from __future__ import annotations

from typing import get_args

import pytest

from cliper.config.features import FieldView, Step
from cliper.features.prompts import cleaning


def view(*clean: str, categories: str = "all_names", min_length: int = 1) -> FieldView:
    template = {"fields": ("title",), "prompt": "___", "missing": "-"}
    return FieldView.model_validate(template | {"clean": clean, "categories": categories, "min_length": min_length})


def test_the_steps_are_those_that_the_config_takes() -> None:
    assert list(cleaning.STEPS) == list(get_args(Step))


@pytest.mark.parametrize(
    ("step", "dirty", "clean"),
    [
        ("entities", "9&quot; &amp;lt;b&amp;gt; &#146;", '9" <b> ’'),
        ("tags", "<p class='x'>a<BR/>b</p><!-- c -->", " a b  "),
        ("tags", "3 < 4, a<3, x > y", "3 < 4, a<3, x > y"),
        ("control_characters", "a\x00b\u200b\ufeff\x9fc\td\n", "abc\td\n"),
        ("white_space", " a\n\n b\t\xa0c ", "a b c"),
        ("line_breaks", "a\n b ", "a  b "),
        ("noise", "Not Available", ""),
        ("noise", "Unknown Pleasures", "Unknown Pleasures"),
    ],
)
def test_a_step_does_one_thing(step: str, dirty: str, clean: str) -> None:
    assert cleaning.field_text(dirty, view(step)) == clean


def test_steps_are_taken_in_their_order() -> None:
    escaped = "&lt;b&gt;n/a&lt;/b&gt;"
    assert cleaning.field_text(escaped, view("entities", "tags", "white_space", "noise")) == ""
    assert cleaning.field_text(escaped, view("tags", "entities", "noise")) == "<b>n/a</b>"


def test_categories_are_cleaned_name_by_name_and_named_once() -> None:
    paths = [["Home &amp; Kitchen", " Mugs "], ["Home & Kitchen", "n/a", "", "Cups"]]
    assert cleaning.field_text(paths, view("entities", "white_space", "noise")) == "Home & Kitchen, Mugs, Cups"


def test_the_first_path_keeps_a_space_after_each_name() -> None:
    first = view(categories="first_path", min_length=2)
    assert cleaning.field_text([["A", "B & C"], ["D"]], first) == "A B & C "
    assert cleaning.field_text([["A"]], first) == "A "
    assert cleaning.field_text([[]], first) == cleaning.field_text([], first) == ""


@pytest.mark.parametrize("value", [None, "", []])
def test_nothing_is_missing(value: cleaning.Value | None) -> None:
    assert cleaning.field_text(value, view(*cleaning.STEPS)) == ""
