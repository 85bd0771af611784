"""The items: what the encoder read and saw of some of them, who bought them, and what two arms recommend.

The script draws from one JSON with all explored.json of the run, whose texts `explore` has made single lines without
unseen signs. Without scripts a table names the items.
"""

from __future__ import annotations

from typing import Any

from cliper.config import decides
from cliper.layout import At
from cliper.report.pages.inputs import read_explored
from cliper.report.pages.rendering import Section, Table, Value


def section(job: decides.Page, at: At) -> Section:
    """What `explore` gathered of each dataset."""
    shown = [_shown(each) for each in read_explored(job, at)]
    shown = [each for each in shown if each["samples"]]
    inspect = f"python -m cliper inspect --config {at('page').parents[1] / 'config.resolved.yaml'}"
    data = {"backbones": job.backbones, "inspect": inspect, "datasets": shown}
    return Section("items", "Look at the items", {"data": data, "tables": [_table(each) for each in shown]})


def _shown(explored: dict[str, Any]) -> dict[str, Any]:
    """The same, with statuses in words."""
    for item in explored["items"].values():
        item["status"] = _in_words(item["status"])
    return explored


def _in_words(status: str) -> str:
    """Why there is no picture.

    >>> _in_words("no_url"), _in_words("http_error")
    ('no URL', 'HTTP error')
    """
    return status.replace("_", " ").replace("url", "URL").replace("http", "HTTP")


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
