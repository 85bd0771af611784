"""Figures on the page are shapes alone; departures from the paper are those of the run's own config."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from functools import reduce
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import toy

from cliper import config, resources
from cliper.config import Config, decides
from cliper.errors import DataError
from cliper.layout import At, Layout
from cliper.report.figures import canvas
from cliper.report.pages import departures, figures
from cliper.report.pages.svg import read_drawing
from cliper.report.tables.grid import Entry, Grid
from cliper.report.tables.made import Made

SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 72 36">{}</svg>'
PATH = '<path d="M 0 0 L 1.23456 2"/>'
HOSTILE = f"""
<script>alert(1)</script><style>body {{display: none}}</style><metadata>secret</metadata><text>words</text>
<foreignObject><p xmlns="http://www.w3.org/1999/xhtml">markup</p></foreignObject>
<image xlink:href="https://example.org/x.png"/><a xlink:href="javascript:alert(1)">{PATH}</a>
<!-- --><script>alert(1)</script><!-- <img src=x onerror=alert(1)> -->
<g onload="alert(1)" class="wide" style="fill: url(https://example.org/x); stroke: #ff0000; position: fixed">
<animate attributeName="href"/><use xlink:href="https://example.org/x.svg#a"/><use href="data:image/svg+xml,x"/>
<path d="M 0 0 L 1 1&quot; onload=" onclick="alert(1)" clip-path="url(https://example.org/#x)" transform="evil(1)"/></g>
{PATH}"""


def drawn(folder: Path, inner: str, name: str = "fig2", label: str = "A title") -> str:
    path = folder / f"{name}.svg"
    path.write_text(SVG.format(inner), encoding="utf-8")
    return str(read_drawing(path, name, label=label).markup)


def parsed(markup: str) -> ET.Element:
    return ET.fromstring(markup)  # noqa: S314


def test_a_drawing_keeps_shapes_and_nothing_that_acts_or_loads(tmp_path: Path) -> None:
    markup = drawn(tmp_path, HOSTILE)
    tags = {element.tag for element in parsed(markup).iter()}
    assert tags == {"svg", "g", "use", "path"}
    shapes = [element.attrib for element in parsed(markup)]
    assert shapes == [{"stroke": "#ff0000"}, {"d": "M0 0L1.23 2"}]  # the group, and the path after it
    assert not re.search(
        r"on\w+=|alert|example|javascript|data:|<!|secret|words|markup|style=.*(fill|position)", markup
    )


def test_a_label_is_text_and_the_drawing_scales(tmp_path: Path) -> None:
    markup = drawn(tmp_path, PATH, label='"><script>\u202e\x1b[31m')
    root = parsed(markup)
    assert root.get("role") == "img"
    assert root.get("aria-label") == '"><script>\\u202e\\x1b[31m'
    assert root.get("viewBox") == "0 0 72 36"
    assert root.get("width") is None
    assert "<script" not in markup


def test_white_ground_and_groups_that_say_nothing_are_left_out(tmp_path: Path) -> None:
    ground = '<g id="figure_1"><g id="patch_1"><path d="M 0 0 L 9 9 z" style="fill: #ffffff"/></g></g>'
    dot = '<g><path d="M 0 0 L 9 9 z" style="fill: #ffffff; stroke: #000000"/></g>'
    (only,) = parsed(drawn(tmp_path, ground + dot))
    assert (only.tag, only.get("stroke")) == ("path", "#000000")


def test_two_figures_share_no_id_and_each_finds_its_own(tmp_path: Path) -> None:
    markups = []
    for name in ("fig2", "fig5"):
        with canvas.styled():
            figure, [[axis]] = canvas.panels(1, 1, width=2, height=2)
            axis.plot([0, 1], [0, 1], marker="o")
            canvas.write(figure, tmp_path / f"{name}.svg", "svg")
        path = tmp_path / f"{name}.svg"
        markups.append(str(read_drawing(path, name, label=name).markup))
        assert len(markups[-1]) < path.stat().st_size
    both = parsed(f"<both>{''.join(markups)}</both>")
    ids = [element.get("id") for element in both.iter() if element.get("id")]
    assert len(ids) == len(set(ids)) > 10
    for markup in markups:
        own = set(re.findall(r'\bid="([^"]+)"', markup))
        assert own == set(re.findall(r'(?:href="|url\()#([^")]+)', markup))


@pytest.mark.parametrize(
    "text",
    [
        None,
        "no markup",
        "<svg/>",
        SVG.format(""),
        "<p>" + PATH + "</p>",
        SVG.format("<g>" * 2000 + PATH + "</g>" * 2000),
        '<!DOCTYPE svg [<!ENTITY a "b">]>' + SVG.format(PATH),
        "\udcff",
    ],
)
def test_a_figure_that_is_missing_or_broken_says_what_to_run(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "fig2.svg"
    if text is not None:
        path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=r"fig2\.svg is (missing|no drawing).*Run: python -m cliper plot --figure fig2"):
        read_drawing(path, "fig2", label="")


def page(*files: str, **overlay: Any) -> tuple[decides.Page, At, Config]:
    """What the page of a config is made from."""
    merged = reduce(config.lay_over, [config.read(toy.REPOSITORY / file) for file in files] + [overlay])
    settings = config.structure(merged, where="test")
    return decides.of_report(settings), At(Layout(settings), {}), settings


def found(job: decides.Page) -> dict[str, list[str]]:
    """What is otherwise than in the paper."""
    return {row.fact: here for row, here in departures.departures(job) if row.paper_has}


ALWAYS = {
    "numbers": ["all run here"],
    "images": ["those that still answer"],
    "base_d": ["64"],
    "text_tower": ["the text tower of the image encoder"],
    "views": ["title, brand, categories, description, global"],
}
DEMO = ("config.yaml", "cliper/data/demo.yaml")


def test_departures_of_the_papers_run() -> None:
    job, *_ = page("config.yaml")
    assert found(job) == ALWAYS | {
        "seeds": ["5"],
        "context": ["248"],
        "backbone": ["BPR", "LightGCN"],
        "search": ["searched for some backbones"],  # BPR has no search
        "learning_rate": ["0.001", "0.005", "0.01", "0.1"],  # of MMRec's grids
    }


def test_departures_of_the_demo() -> None:
    job, *_ = page(*DEMO)
    assert found(job) == ALWAYS | {
        "seeds": ["2"],
        "dataset": ["Demo shop"],
        "d": ["64"],
        "encoder": ["bridge"],
        "backbone": ["LightGCN"],
        "search": ["not searched"],
        "learning_rate": ["0.005"],
    }


def test_each_setting_that_departs_is_found() -> None:
    overlay = {
        "datasets": {"shop": {"split": "user_time", "k_core": 3, "min_rating": 4}},
        "arms": {"cliper": {"temperature": 0.2, "prompts": "as_released"}},
        "encode": {"overflow": "chunk_mean"},
        "train": {"patience": 20, "weight_decay": 0.0},
        "evaluate": {"mask_valid": True},
        "run": {"seeds": [1], "backbones": ["freedom"]},
    }
    job, *_ = page(*DEMO, **overlay)
    assert found(job) == ALWAYS | {
        "dataset": ["Demo shop"],
        "k_core": ["3"],
        "min_rating": ["4"],
        "split": ["user_time"],
        "d": ["64"],
        "encoder": ["bridge"],
        "prompts": ["as_released"],
        "temperature": ["0.2"],
        "overflow": ["chunk_mean"],
        "search": ["not searched"],
        "learning_rate": ["0.005"],
        "weight_decay": ["0"],
        "patience": ["20"],
        "mask_valid": ["items of train and validation"],
    }


def test_every_fact_of_the_file_is_looked_at() -> None:
    looked_at = {fact for files in (("config.yaml",), DEMO) for fact in departures.facts_of(page(*files)[0])}
    assert {row.fact for row in departures.known()} == looked_at - {"control"}  # no departure: a study's alone


def long_of(job: decides.Page, at: At, table: str) -> Made:
    """A study's table in which every comparison gains 2 %."""
    del at
    study = job.tables[table]
    assert isinstance(study, decides.Study)
    rows = [
        {"group": "Shop", "variation": f"not {each.base}", "established": True, **each._asdict()}
        | {"metric": "recall", "k": 20, "mean": 10.0, "gain": 2.0, "gain_low": 1.0, "gain_high": 3.0, "p_holm": 0.01}
        for each in study.comparisons
    ]
    return Made(pl.DataFrame(rows), None, None)  # type: ignore[arg-type]


def test_a_departure_costs_what_the_study_of_it_alone_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(departures, "made_for", long_of)
    base = {"title": "Q", "arm": "cliper", "datasets": ["shop"], "backbones": ["freedom"]}
    studies = {
        "fig2": None,
        "width": {**base, "vary": {"d": [32, 128]}},
        "others": {**base, "vary": {"backbone": ["lightgcn"], "missing_image": ["zero"], "arm": ["as_released"]}},
        "of_vanilla": {**base, "arm": "vanilla", "vary": {"arm": ["vanilla_matched", "cliper"]}},
    }
    job, at, _ = page(*DEMO, studies=studies)
    measured = departures.measures(job, at)
    assert len(measured) == 7
    costs = {row.fact: [each.results["arm"] for each in departures.cost(row, measured)] for row in departures.known()}
    assert {fact: arms for fact, arms in costs.items() if arms} == {
        "d": ["cliper.d-128"],  # the paper's; 32 is neither's
        "base_d": ["vanilla_matched"],
        "backbone": ["content_free"],
        "missing_image": ["cliper.missing_image-zero"],
    }
    values = departures.section(job, at).values
    cells = {str(row[0]): row[-1] for row in values["otherwise"].rows}
    assert cells["d of CLIPER"].text == "Shop: not cliper against cliper +2.0 % (+1.0 to +3.0), established"
    assert cells["d of CLIPER"].link == "figure-width"
    assert cells["Runs of a cell"].text == "not measured in this run"
    assert len(values["worth"].rows) == 7


def test_numbers_are_rounded_for_people_and_long_files_are_cut() -> None:
    frame = pl.DataFrame(
        {
            "dataset": ["shop"] * 201,
            "backbone": ["freedom"] * 201,
            "arm": ["cliper"] * 201,
            "seed": [1] * 201,
            "epoch": range(201),
            "loss": [0.123456] * 201,
            "valid_recall@20": [None, *[0.31415] * 200],
            "seconds": [None] * 201,
        }
    )
    table = figures.number_table(frame, figures.COLUMNS["curves"], "curves")
    assert table.heading[-1] == "Validation Recall@20, %"  # nobody measured seconds
    assert [str(value.text) for value in table.rows[1][-2:]] == ["0.1235", "31.41"]
    assert table.rows[0][-1].text == "–"
    assert len(table.rows) == 200
    assert table.caption == "Numbers of curves, the first 200 of 201"


def test_a_study_names_its_only_group_once() -> None:
    heading = ["Group", "Variation", "R@20"]
    one = Grid(heading, [["Baby · FREEDOM", "cliper", Entry("1.00")]], ("Views", "Percent."), labels=2)
    table = figures._study_table(one, "Views")
    assert (table.caption, list(table.heading), table.labels) == ("Views: Baby · FREEDOM", heading[1:], 1)
    assert [str(value if isinstance(value, str) else value.text) for value in table.rows[0]] == ["cliper", "1.00"]
    assert list(table.notes) == ["Percent."]  # the title is the caption
    two = one._replace(rows=[*one.rows, ["Baby · LATTICE", "cliper", Entry("2.00")]])
    assert list(figures._study_table(two, "Views").heading) == heading


def test_numbers_that_are_missing_or_of_another_figure_say_what_to_run(tmp_path: Path) -> None:
    job, *_ = page(*DEMO)
    heading = ",".join(column.name for column in figures.COLUMNS["curves"])
    for text in (None, "", "a,b\n1,2\n", f"{heading}\n"):
        path = tmp_path / "curves.csv"
        if text is not None:
            path.write_text(text)
        with pytest.raises(DataError, match=r"curves\.csv .*Run: python -m cliper plot --figure curves"):
            figures.read_numbers(path, "curves", job.figures["curves"])


def test_a_page_is_not_made_without_one_of_its_figures(workdir: Path) -> None:
    job, at, _ = page(*DEMO)
    with pytest.raises(
        DataError, match=r"results/demo/plot/fig2\.svg is missing\. Run: python -m cliper plot --figure"
    ):
        figures.section(job, at)


def test_departures_file_is_whole() -> None:
    for row in resources.read_csv("departures.csv"):
        assert row["what"] and "{}" in row["here"]
        assert bool(row["paper_has"]) == bool(row["paper"]) == bool(row["place"])
