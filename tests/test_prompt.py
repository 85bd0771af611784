from __future__ import annotations

import io
from pathlib import Path

import polars as pl
import pytest
import toy

from cliper import config as config_module
from cliper import files
from cliper.__main__ import main
from cliper.collect.sources.records import ITEMS
from cliper.config import Config, MadeFeatures
from cliper.errors import ConfigError
from cliper.features import prompt
from cliper.features.prompts import templates
from cliper.features.prompts.cleaning import PANDAS_MISSING, Value
from cliper.layout import Layout
from cliper.tools import preview

ITEM: dict[str, Value | None] = {
    "title": "Pram",
    "brand": None,
    "categories": [["Baby", "Strollers"]],
    "description": "Light.",
}
CONFIG = ["--config", str(toy.REPOSITORY / "config.yaml"), "toy.yaml"]
NOTHING: dict[str, Value | None] = dict.fromkeys(ITEM)


def text_of(view: str, prompts: str = "as_described", **item: Value | None) -> str:
    return templates.render(toy.settings().prompt_set(prompts), view, ITEM | item)[0]


def test_views_read_as_in_the_paper() -> None:
    # Section 4, "Prompt Design"
    assert text_of("title") == "The product title is Pram."
    assert text_of("brand", brand="Acme") == "The product brand is Acme."
    assert text_of("categories") == "The product categories are Baby, Strollers."
    assert text_of("description") == "The product description is Light.."


def test_a_missing_field_says_missing() -> None:
    assert templates.render(toy.settings().prompt_set("as_described"), "brand", ITEM) == (
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
    assert templates.render(views, "global", ITEM)[1] is False
    assert templates.render(views, "global", NOTHING)[1] is True


def test_vanilla_text_joins_the_fields_that_are_there() -> None:
    views = toy.settings().prompt_set("joined_fields")
    assert templates.render(views, "joined", ITEM) == ("Pram Baby, Strollers Light.", False)
    assert templates.render(views, "joined", NOTHING) == ("Missing", True)


def test_a_blank_inside_a_value_stays() -> None:
    assert text_of("title", title="Fill ___ in {}") == "The product title is Fill ___ in {}."


def test_released_prompts_are_the_released_strings() -> None:
    # spec of the released code: braces never filled, the first path only with its spaces, no full stop
    paths = [["Baby", "Strollers"], ["Travel"]]
    assert text_of("title", "as_released") == "The product title is Pram."
    assert text_of("brand", "as_released") == "The product brand is Missing."
    assert text_of("categories", "as_released", categories=paths) == "The product categories are Baby Strollers ."
    assert (
        text_of("description", "as_released", description="A\nb  &amp; c") == "The product description is A b  &amp; c"
    )
    assert text_of("global", "as_released", categories=paths) == (
        "The product categories are {}.The product title is {}.The product brand is {}."
        "The product description is as following:Baby Strollers "
    )


def test_released_prompts_of_an_item_without_anything() -> None:
    views = toy.settings().prompt_set("as_released")
    assert {view: templates.render(views, view, NOTHING) for view in views} == {
        "title": ("The product title is Missing.", True),
        "brand": ("The product brand is Missing.", True),
        "categories": ("The product categories are Missing.", True),
        "description": ("The product description is Missing.", True),
        "global": (
            "The product categories are {}.The product title is {}.The product brand is {}."
            "The product description is as following: ",
            True,
        ),
    }


def test_a_released_value_of_one_character_is_missing_and_one_of_two_is_not() -> None:
    assert text_of("title", "as_released", title="X") == "The product title is Missing."
    assert text_of("title", "as_released", title="XY") == "The product title is XY."
    assert text_of("title", title="X") == "The product title is X."


@pytest.mark.parametrize("value", ["NA", "N/A", "None", "nan", "NaN", "null", "NULL", "n/a", "#N/A", "<NA>", "-1.#IND"])
def test_released_values_that_a_csv_loses_are_missing(value: str) -> None:
    # pandas' default na_values, at the round trip from the released code's first script to its second
    for view in ("title", "brand", "description"):
        assert text_of(view, "as_released", **{view: value}) == f"The product {view} is Missing."
        assert text_of(view, "as_released", **{view: f"{value} X"}).startswith(f"The product {view} is {value} X")
    assert text_of("title", "as_released", title="NONE") == "The product title is NONE."
    # Categories are written as a list, whose text is none of these values.
    paths = [[value, "Cups"]]
    assert text_of("categories", "as_released", categories=paths) == f"The product categories are {value} Cups ."
    assert text_of("global", "as_released", categories=paths).endswith(f"as following:{value} Cups ")


def test_the_released_global_prompt_reads_no_field_but_the_categories() -> None:
    without = text_of("global", "as_released", categories=None)
    assert without == text_of("global", "as_released", categories=None, title="T", brand="B", description="D")
    assert without.endswith("{}.The product description is as following: ")  # one space for the missing value


def test_what_a_csv_loses_is_what_pandas_loses() -> None:
    pandas = pytest.importorskip("pandas")
    values = [*PANDAS_MISSING - {""}, "NONE", "none", "Na", "NA ", " NA", "-", "missing", "N.A."]
    read = pandas.read_csv(io.StringIO("".join(f'{n},"{value}"\n' for n, value in enumerate(values))), header=None)[1]
    assert read.isna().tolist() == [value in PANDAS_MISSING for value in values]


def test_only_the_released_description_loses_its_line_breaks() -> None:
    assert text_of("title", "as_released", title="A\nb") == "The product title is A\nb."


def test_described_values_are_cleaned_and_joined_ones_are_not() -> None:
    dirty: Value = "<b>Tom</b> &amp;amp; Jerry\x00"
    assert text_of("title", title=dirty) == "The product title is Tom & Jerry."
    assert text_of("brand", brand="N/A") == "The product brand is Missing."
    assert text_of("joined", "joined_fields", title=dirty, categories=None).startswith("<b>Tom</b> &amp;amp; Jerry\x00")


def test_views_can_be_added_renamed_and_written_otherwise_from_the_config() -> None:
    label = {"fields": ["brand", "title"], "prompt": "Label: ___", "missing": "No label", "clean": []}
    overlay = {"label": label, "title": {"prompt": "It is ___", "min_length": 5}, "global": {"views": ["label"]}}
    chosen = toy.settings(
        prompts={"as_described": overlay}, arms={"cliper": {"views": ["global", "label"]}}, prompt={"clean": ["tags"]}
    )
    views = chosen.prompt_set("as_described")
    assert templates.render(views, "global", ITEM | {"brand": "A&amp;B"})[0] == (
        "The product descriptions are Label: A&amp;B Pram"
    )
    assert templates.render(views, "title", ITEM)[0] == "The product title is Missing."
    features = chosen.features("baby", "cliper")
    assert isinstance(features, MadeFeatures)
    assert features.views == ("global", "label")
    assert [views[view].clean for view in ("label", "brand")] == [(), ("tags",)]  # type: ignore[union-attr]


def test_cleaning_is_counted_by_field_and_step() -> None:
    titles = ["A &amp; B", "<br>", None, "n/a", "ok"]
    items = pl.DataFrame({"title": titles, "brand": [None] * 5})
    views = toy.settings().prompt_set("as_described")
    counted = prompt.count_cleaning(items, views, "title").select("step", "n_changed", "n_emptied")
    assert counted.rows() == [
        ("reading", 0, 1),
        ("entities", 1, 0),
        ("tags", 1, 0),  # "<br>" becomes " "
        ("control_characters", 0, 0),
        ("white_space", 0, 1),
        ("noise", 0, 1),
        ("min_length", 0, 0),
    ]
    assert prompt.describe_cleaning(prompt.count_cleaning(items, views, "title")) == (
        "title: reading emptied 1, entities changed 1, tags changed 1, white_space emptied 1, noise emptied 1"
    )


def test_a_joined_view_counts_the_fields_of_its_parts() -> None:
    items = pl.DataFrame([ITEM, ITEM | {"title": "-"}], infer_schema_length=None)
    counted = prompt.count_cleaning(items, toy.settings().prompt_set("as_described"), "global")
    assert counted["field"].unique().sort().to_list() == ["brand", "categories", "description", "title"]
    assert counted.filter(field="title", step="noise")["n_emptied"].item() == 1


def test_the_stage_writes_a_row_for_every_item(workdir: Path) -> None:
    config = toy.settings(**toy.dataset(workdir))
    items = pl.DataFrame([{"asin": "i", "title": "T"}, {"asin": "j"}], schema=ITEMS).with_row_index("item")
    files.write_table(toy.path(config, "items", dataset="toy"), "items", items)
    toy.run("prompt", config, dataset="toy", prompts="as_described", view="title")
    path = toy.path(config, "prompts", dataset="toy", prompts="as_described", view="title")
    assert files.read_table(path, "prompts").rows() == [
        (0, "title", "The product title is T.", False),
        (1, "title", "The product title is Missing.", True),
    ]
    path = toy.path(config, "cleaning", dataset="toy", prompts="as_described", view="title")
    assert files.read_table(path, "cleaning").filter(step="reading")["n_emptied"].to_list() == [1]


@pytest.fixture
def catalogued(workdir: Path) -> Config:
    overlay = toy.dataset(workdir)
    config_module.write(overlay, Path("toy.yaml"))
    config = toy.settings(**overlay)
    items = pl.DataFrame([{"asin": "i", "title": "T"}, {"asin": "j"}, {"asin": "k"}], schema=ITEMS)
    files.write_table(toy.path(config, "items", dataset="toy"), "items", items.with_row_index("item"))
    return config


def test_a_preview_prints_prompts_of_the_first_items_and_writes_nothing(
    catalogued: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prompt", *CONFIG, "--preview", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["joined_fields, item 0 (i)", "  joined: T"]  # the run's first arm
    assert lines[4:6] == ["as_described, item 0 (i)", "  title: The product title is T."]
    assert "  title (missing): The product title is Missing." in lines
    assert not [line for line in lines if "item 2" in line]
    assert not Path("results/shared/prompt").exists()
    assert not Path("results/toy").exists()


def test_a_preview_can_be_of_one_set_and_view(catalogued: Config, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["prompt", *CONFIG, "--preview", "1", "--prompts", "as_released", "--view", "brand"]
    assert main(command) == 0
    assert capsys.readouterr().out == "as_released, item 0 (i)\n  brand (missing): The product brand is Missing.\n"


def test_a_preview_counts_tokens_where_the_encoder_is_ready_and_says_how_to_get_the_others(
    catalogued: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.run("weights", catalogued, encoder="minilm")
    capsys.readouterr()
    assert main(["prompt", *CONFIG, "--preview", "1"]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[:2] == ["joined_fields, item 0 (i)", "  joined [minilm 3 tokens]: T"]  # with the marks of both ends
    assert lines[2:4] == ["as_described, item 0 (i)", "  title: The product title is T."]
    (warning,) = printed.err.splitlines()
    assert warning.startswith("cliper prompt: warning: tokens of longclip-l are not counted: ")
    command = f"python -m cliper weights {' '.join(CONFIG)} --encoder longclip-l"
    assert warning.endswith(f"weights.json is missing. Run: {command}")


def test_a_set_that_no_arm_reads_is_counted_by_all_encoders(
    catalogued: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.run("weights", catalogued, encoder="minilm")
    capsys.readouterr()
    command = ["prompt", *CONFIG, "--preview", "1", "--prompts", "as_released", "--view", "brand"]
    assert main(command) == 0
    assert "  brand [minilm 8 tokens] (missing): The product brand is Missing." in capsys.readouterr().out


def test_a_preview_counts_tokens_whatever_becomes_of_long_texts(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = toy.settings(**toy.dataset(workdir), encoders={"minilm": {"overflow": "chunk_mean"}})
    toy.run("weights", config, encoder="minilm")
    capsys.readouterr()
    assert preview.load_counter(Layout(config), "minilm")(["T"]) == [3]
    assert "not counted" not in capsys.readouterr().err


def test_without_a_preview_every_name_is_needed(catalogued: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompt", *CONFIG, "--dataset", "toy"]) == 2
    assert capsys.readouterr().err == "ConfigError: prompt needs --prompts, --view, or --preview N\n"


def test_an_unknown_view_or_set_is_answered_with_the_known_ones(workdir: Path) -> None:
    config = toy.settings(**toy.dataset(workdir))
    with pytest.raises(ConfigError, match="unknown view of as_described 'colour'; known: brand"):
        toy.run("prompt", config, dataset="toy", prompts="as_described", view="colour")
    with pytest.raises(ConfigError, match="unknown prompt set 'mine'; known: as_described, as_released, joined_fields"):
        toy.run("prompt", config, dataset="toy", prompts="mine", view="title")
