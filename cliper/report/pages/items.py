"""The items: what the encoder read and saw of some of them, who bought them, and what two arms recommend.

The script draws from one JSON with all explored.json of the run; without scripts a table names the items.
"""

from __future__ import annotations

from typing import Any

from cliper import files, media
from cliper.config import decides
from cliper.layout import At
from cliper.report.pages.rendering import Section, Table, Value


def section(job: decides.Page, at: At) -> Section:
    """What `explore` gathered of each dataset."""
    shown = [_shown(files.read_json(at("explored", dataset=dataset), made_by="explore")) for dataset in job.titles]
    shown = [each for each in shown if each["samples"]]
    return Section(
        "items",
        "Look at the items",
        {"data": {"backbones": job.backbones, "datasets": shown}, "tables": [_table(each) for each in shown]},
    )


def _shown(explored: dict[str, Any]) -> dict[str, Any]:
    """What the page shows of explored.json: plain texts, and statuses in words."""
    found: dict[str, Any] = _plain(explored)
    for item in found["items"].values():
        item["status"] = _in_words(item["status"])
    return found


def _plain(value: Any) -> Any:
    """JSON whose texts are one line, with nothing unseen in them, as those of figures.

    >>> _plain({"title": "a\\u202eb\\n", "ranks": [1, None]})
    {'title': 'a\\\\u202eb ', 'ranks': [1, None]}
    """
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return media.picture(value) if isinstance(value, str) else value


def _in_words(status: str) -> str:
    """Why there is no picture.

    >>> _in_words("no_url"), _in_words("http_error 404")
    ('no URL', 'http error 404')
    """
    return status.replace("_", " ").replace("url", "URL")


def _table(shown: dict[str, Any]) -> Table:
    """The samples, each with the view that lies closest to its picture, for arms that have several views."""
    arms = [arm for arm, made in shown["arms"].items() if len(made.get("views", ())) > 1]
    rows = []
    for sample in shown["samples"]:
        item = shown["items"][str(sample["item"])]
        best = [_best(sample["arms"][arm]["views"]) for arm in arms]
        rows.append([item["title"] or "no title", item["asin"] or "none", *best])
    heading = ["Title", "ASIN", *(f"Closest view, {arm}" for arm in arms)]
    return Table(f"Some items of {shown['title']}", heading, rows, is_sortable=False)


def _best(views: list[dict[str, Any]]) -> str | Value:
    first = [view for view in views if view["rank"] == 1 and view["similarity"] is not None]
    return f"{first[0]['view']} ({first[0]['similarity']:.2f})" if first else Value("none", kind="quiet")
