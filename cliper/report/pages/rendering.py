"""The report as a page: sections, each a template and its values, become one file of HTML.

Everything that the page needs is in it: style, scripts and pictures. What comes from data is escaped by Jinja, and a
script reads its numbers from JSON in which no character can end the element.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from cliper import media, resources
from cliper.report.tables.grid import Entry, Grid

FOLDER = "report"  # in cliper/data
UPLOT = "vendor/uplot"
SAFE_IN_SCRIPT = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


class Value(NamedTuple):
    """A cell of a table.

    order   what the table is sorted by; None: the text
    kind    of its look: number, best, second, good, bad, odd, quiet, or ""
    link    id of what it leads to on the page
    """

    text: str
    order: float | str | None = None
    kind: str = ""
    link: str | None = None


class Table(NamedTuple):
    """A table of the page, which a reader can sort.

    labels  columns at the left that name a row
    """

    caption: str
    heading: Sequence[str]
    rows: Sequence[Sequence[str | Value]]
    labels: int = 1
    notes: Sequence[str] = ()
    groups: Sequence[str] = ()
    is_sortable: bool = True


class Section(NamedTuple):
    """A part of the page.

    id      of its heading, and the name of its template `<id>.html` in cliper/data/report
    values  what the template reads
    """

    id: str
    title: str
    values: dict[str, Any]


def of_grid(grid: Grid, caption: str) -> Table:
    """A printed table as one of the page."""
    looks = {1: "best", 2: "second"}
    rows = [
        [
            Value(str(cell), _number(cell.number), f"number {looks.get(cell.place, '')}".strip())
            if isinstance(cell, Entry)
            else cell
            for cell in row
        ]
        for row in grid.rows
    ]
    return Table(caption, grid.heading, rows, grid.labels, (*grid.signs, *grid.notes), grid.groups)


def _number(text: str) -> float | None:
    """The number that a text begins with.

    >>> [_number(text) for text in ("31.32 ± 0.81", "1,234", "not run")]
    [31.32, 1234.0, None]
    """
    try:
        return float(text.replace(",", "").split()[0])
    except (ValueError, IndexError):
        return None


def as_json(value: Any) -> Markup:
    """JSON for a `<script type="application/json">`.

    >>> as_json({"title": "</script><b>"})
    Markup('{"title":"\\\\u003c/script\\\\u003e\\\\u003cb\\\\u003e"}')
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(SAFE_IN_SCRIPT))  # noqa: S704 - nothing in it can end the element


def environment() -> Environment:
    """Templates, with everything from data escaped. A name that a template reads and nobody gave is an error."""
    found = Environment(
        loader=DictLoader({name: resources.read_text(f"{FOLDER}/{name}") for name in _names("*.html")}),
        autoescape=True,
        finalize=media.html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"json": as_json, "groupby_runs": _runs}
    return found


def _runs(names: Sequence[str]) -> list[tuple[str, int]]:
    """Equal neighbours, counted.

    >>> _runs(["", "", "MMGCN"])
    [('', 2), ('MMGCN', 1)]
    """
    return [(name, len(list(group))) for name, group in groupby(names)]


def render(sections: Sequence[Section], *, title: str, headline: str) -> str:
    """The page.

    headline  the answer in one sentence
    """
    found = environment().get_template("page.html")
    vendor = [f"{UPLOT}/{name}" for name in ("uPlot.min.css", "uPlot.iife.min.js", "LICENSE")]
    uplot_style, uplot, licence = map(_own, vendor)
    return found.render(
        title=title,
        headline=headline,
        sections=sections,
        styles=[uplot_style, *map(_own, _names("*.css"))],
        scripts=[uplot, *map(_own, _names("*.js"))],
        licence=licence,
    )


def _names(pattern: str) -> list[str]:
    return sorted(path.name for path in resources.place(FOLDER).glob(pattern))


def _own(name: str) -> Markup:
    """A file of ours, which stands in the page as it is."""
    return Markup(resources.read_text(f"{FOLDER}/{name}"))  # noqa: S704
