"""The report's items: each dataset once; names from data only as JSON or escaped; a table where scripts are off."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import toy

from cliper import files
from cliper.config import Config
from cliper.config.decides import BUILDERS
from cliper.errors import DataError
from cliper.layout import At, Layout
from cliper.report.pages import items
from cliper.report.pages.rendering import Section, render

HOSTILE = '</script><script>alert("&")</script><img src=x onerror=alert(1)>'
THUMB = "data:image/webp;base64,AAAA"


def view(name: str, *, similarity: float | None, rank: int | None) -> dict[str, Any]:
    """A view of three words, of which the encoder read two."""
    numbers = {"n_tokens": 6, "n_chunks": 1, "n_words": 3, "n_read": 2, "truncated": True, "is_missing": False}
    words = [["A", 1], ["lampshade", 3], [HOSTILE, 2]]
    return {"view": name, "similarity": similarity, "weight": 0.5, "rank": rank, "words": words, **numbers}


def explored(dataset: str, **changes: Any) -> dict[str, Any]:
    """Two items, of which the first is a sample; one user; an arm that was made and one that was given."""
    views = [view("title", similarity=0.1, rank=2), view("brand", similarity=0.3, rank=1)]
    rest = {"image_is_filled": False, "text_is_filled": False, "by_image": [[8, 0.9]], "by_text": [[8, 0.8]]}
    sample = {
        "item": 3,
        "why": "disagree",
        "picture": THUMB,
        "fields": {"title": HOSTILE, "brand": None, "categories": "A > B", "description": None},
        "arms": {"vanilla": {**rest, "views": []}, "cliper": {**rest, "views": views}},
    }
    user = {"user": 0, "user_id": "u1", "bought": [3], "n_bought": 1, "kept": [8], "n_kept": 1}
    made = {"text": "bridge", "image": "bridge", "fusion": "sa", "temperature": 0.1, "views": ["title", "brand"]}
    found = {
        "dataset": dataset,
        "title": f"Shop {dataset}",
        "arms": {"vanilla": {"given": True}, "cliper": made},
        "items": {
            "3": {"asin": "a3", "title": HOSTILE, "thumb": THUMB, "status": "ok"},
            "8": {"asin": None, "title": None, "thumb": None, "status": "no_url"},
        },
        "samples": [sample],
        "users": [{**user, "lists": {"freedom": {"vanilla": [8], "cliper": [3]}}}],
    }
    return found | changes


def section(config: Config, *found: dict[str, Any]) -> Section:
    """The section of a run whose stage `explore` wrote these files."""
    for each in found:
        files.write_json(toy.path(config, "explored", dataset=each["dataset"]), each)
    return items.section(BUILDERS["report"](config), At(Layout(config), {}))


def of_datasets(*names: str) -> Config:
    return toy.settings(name="toy", run={"datasets": list(names), "arms": ["vanilla", "cliper"]})


def page(found: Section) -> str:
    return render([found], title="Report", headline="")


def table_cells(text: str) -> list[str]:
    return [unescape(cell) for cell in re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", text)]


def test_the_page_holds_what_explore_wrote_of_each_dataset_once(workdir: Path) -> None:
    text = page(section(of_datasets("baby", "sports"), explored("baby"), explored("sports")))
    [held] = re.findall(r'<script type="application/json" id="item-data">(.*?)</script>', text, re.DOTALL)
    data = json.loads(held)
    assert [each["dataset"] for each in data["datasets"]] == ["baby", "sports"]
    assert data["datasets"][1]["samples"] == explored("sports")["samples"]
    assert data["datasets"][1]["users"] == explored("sports")["users"]
    assert data["backbones"]["freedom"] == "FREEDOM"
    assert data["inspect"] == "python -m cliper inspect --config results/toy/config.resolved.yaml"
    assert text.count(THUMB) == 2 * 2  # of each dataset a thumbnail and a picture


def test_names_from_data_never_become_markup(workdir: Path) -> None:
    text = page(section(of_datasets("baby"), explored("baby", title=HOSTILE)))
    assert "alert(" in text
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    [held] = re.findall(r'<script type="application/json" id="item-data">(.*?)</script>', text, re.DOTALL)
    assert not set("<>&") & set(held)
    assert json.loads(held)["datasets"][0]["items"]["3"]["title"] == HOSTILE


def test_the_script_makes_no_markup_from_texts() -> None:
    script = (toy.REPOSITORY / "cliper/data/report/items.js").read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|Function\(", script)
    assert len(script.encode()) < 40_000


def test_without_scripts_a_table_names_the_samples_and_their_closest_views(workdir: Path) -> None:
    text = page(section(of_datasets("baby"), explored("baby")))
    [without] = re.findall(r"<noscript>(.*?)</noscript>", text, re.DOTALL)
    heading = ["Title", "ASIN", "Closest view, cliper"]  # of vanilla nobody knows the views
    assert table_cells(without) == [*heading, HOSTILE, "a3", "brand (0.30)"]


def test_a_dataset_without_pictures_says_why_in_words(workdir: Path) -> None:
    bare = explored("baby")
    bare["items"]["3"] |= {"thumb": None, "status": "not_crawled"}
    sample = bare["samples"][0] | {"picture": None}
    for each in sample["arms"]["cliper"]["views"]:
        each |= {"similarity": None, "rank": None}
    found = section(of_datasets("baby"), bare | {"samples": [sample]})
    [shown] = found.values["data"]["datasets"]
    assert [item["status"] for item in shown["items"].values()] == ["not crawled", "no URL"]
    assert table_cells(page(found))[-1] == "none"


def test_a_dataset_without_samples_is_left_out(workdir: Path) -> None:
    empty = explored("baby", samples=[])
    found = section(of_datasets("baby", "sports"), empty, explored("sports"))
    assert [each["dataset"] for each in found.values["data"]["datasets"]] == ["sports"]
    text = page(section(of_datasets("baby"), empty))
    assert "no items to show" in text
    assert "item-data" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)


def test_a_file_that_is_not_there_is_named_with_its_stage(workdir: Path) -> None:
    with pytest.raises(DataError, match=r"explored\.json.*explore --dataset baby"):
        section(of_datasets("baby"))


@pytest.mark.parametrize("text", ["{}", "[]", '{"title": "Baby", "arms": {}, "items": {}, "samples": []}'])
def test_a_file_without_its_keys_is_named_with_its_stage(workdir: Path, text: str) -> None:
    config = of_datasets("baby")
    files.write_text(toy.path(config, "explored", dataset="baby"), text)
    with pytest.raises(DataError, match=r"explored\.json lacks .*users; delete it and run: .* explore --dataset baby"):
        section(config)


@pytest.mark.parametrize(
    "hook", ["item-search", "item-view", "user-pick", "user-backbone", "list-arm-1", "list-arm-2", "item-dataset"]
)
def test_every_control_has_a_label_and_stands_once(workdir: Path, hook: str) -> None:
    text = re.sub(r"<script>.*?</script>", "", page(section(of_datasets("baby"), explored("baby"))), flags=re.DOTALL)
    assert text.count(f'id="{hook}"') == 1
    assert f'for="{hook}"' in text or hook == "item-view"
