"""The page of a hostile toy run: what is in its file, and what it does in Chromium."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
import toy
import toy_report
from axe_playwright_python.sync_playwright import Axe
from browser import CHROMIUM, INSTALL, NARROW, WIDE, Opened, chromium, opened
from playwright.sync_api import Browser

from cliper import media
from cliper.config import Config
from cliper.errors import DataError
from cliper.report.pages import rendering

Open = Callable[..., Opened]


class Report(NamedTuple):
    """The run and its page."""

    config: Config
    file: Path

    @property
    def text(self) -> str:
        return self.file.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Report]:
    """The run, in the current folder of this file's tests."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(tmp_path_factory.mktemp("report"))
        config = toy_report.write()
        toy.run("report", config)
        yield Report(config, toy.path(config, "page").resolve())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip(f"no Chromium here; as root: {INSTALL}")
    with chromium() as found:
        yield found


@pytest.fixture
def open_page(browser: Browser, report: Report) -> Iterator[Open]:
    """Opens the page, or a changed copy of it; the window closes at the test's end."""
    with ExitStack() as windows:
        yield lambda file=report.file, **more: windows.enter_context(opened(browser, file, **more))


# what is in the file


def test_the_page_is_small_and_its_script_smaller(report: Report) -> None:
    assert len(report.text.encode()) < 10e6
    scripts = re.findall(r"<script>(.*?)</script>", report.text, re.DOTALL)
    assert 50_000 < sum(len(script.encode()) for script in scripts) < 200_000  # uPlot's and ours


def test_nothing_that_is_unseen_is_in_the_file(report: Report) -> None:
    """Marks that turn the direction of writing, and what moves a terminal's cursor."""
    assert r"\x1b[31mred" in report.text
    assert not re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", report.text)


def test_the_licence_of_uplot_is_in_the_page(report: Report) -> None:
    assert "Permission is hereby granted, free of charge" in report.text
    assert "Leon Sorokin" in report.text


# what a browser makes of it


def test_no_request_leaves_the_page_and_the_console_is_silent(open_page: Open) -> None:
    found = open_page()
    found.open_details()
    found.page.mouse.wheel(0, 9000)
    assert (found.requested, found.said) == ([], [])


def test_without_its_policy_a_request_would_be_seen(open_page: Open, report: Report, tmp_path: Path) -> None:
    asks = "<script>fetch('https://attacker.example/').catch(() => {})</script>"
    asking, free = tmp_path / "asking.html", tmp_path / "free.html"
    asking.write_text(report.text.replace("</body>", f"{asks}</body>"), encoding="utf-8")
    free.write_text(re.sub("<meta http-equiv.*", "", asking.read_text(encoding="utf-8")), encoding="utf-8")
    refused, sent = open_page(asking), open_page(free)
    sent.page.wait_for_load_state("networkidle")
    assert refused.requested == []
    assert any("Content Security Policy" in line for line in refused.said)
    assert sent.requested == ["https://attacker.example/"]


FROM_DATA = """() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const handlers = all("*").filter((each) => each.getAttributeNames().some((name) => name.startsWith("on")));
  const outside = all("[src], link[href], use").filter((each) =>
    ["src", "href", "xlink:href"].some((name) => !/^(#|data:(image|,)|$)/.test(each.getAttribute(name) ?? "")));
  const links = all("a[href]").filter((each) => /attacker|script:/.test(each.getAttribute("href")));
  const scripts = all("script").filter((each) => each.text.startsWith("document.title"));
  const others = all("#owned, [autofocus], base, iframe, object, embed, form");
  return [handlers, outside, links, scripts, others].flat().map((each) => each.outerHTML.slice(0, 200));
}"""


def require_only_text(found: Opened) -> None:
    """Nothing that came from data is an element, an attribute or a script of the page."""
    assert "owned" not in (found.page.title(), found.page.evaluate("window.owned"))
    assert found.page.evaluate(FROM_DATA) == []


def test_texts_from_data_are_never_markup(open_page: Open) -> None:
    found = open_page()
    found.open_details()
    require_only_text(found)
    assert toy_report.TITLES["toys"] in found.page.locator("h1").inner_text()


def test_with_escaping_off_the_same_check_fails(
    open_page: Open, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = rendering.environment()
    made.autoescape, made.finalize = False, None
    monkeypatch.setattr(rendering, "environment", lambda: made)
    kept = report.text
    try:
        toy.run("report", report.config)
        found = open_page()
        with pytest.raises(AssertionError):
            require_only_text(found)
    finally:
        report.file.write_text(kept, encoding="utf-8")


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_the_page_never_scrolls_sideways(open_page: Open, width: int) -> None:
    found = open_page(width=width)
    for _ in range(2):
        assert found.page.evaluate("document.documentElement.scrollWidth") <= width
        found.open_details()


SHORTEN = """() => {  // axe takes milliseconds for each element: three rows of a table, three cards, no curves
  const few = (all) => { for (const each of [...all].slice(2, -1)) each.remove(); };
  few(document.querySelectorAll("details.cell"));
  for (const body of document.querySelectorAll("tbody")) few(body.rows);
  for (const each of document.querySelectorAll("svg g")) each.remove();
}"""


def faults(found: Opened, *, within: str = "html", **options: Any) -> list[str]:
    """What axe-core finds serious or critical."""
    found.page.evaluate(SHORTEN)
    found_by_axe = Axe().run(found.page, within, options={"resultTypes": ["violations"], **options}).response
    return [
        f"{each['id']}: {node['target']} {node['failureSummary']}"
        for each in found_by_axe["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_axe_finds_no_serious_fault_in_light_and_in_dark(open_page: Open, width: int) -> None:
    found = open_page(width=width)
    found.open_details()
    assert faults(found) == []
    found.page.emulate_media(color_scheme="dark")
    assert faults(found, runOnly=["color-contrast"]) == []  # nothing else changes


def test_axe_sees_a_pale_text(open_page: Open) -> None:
    found = open_page()
    found.page.evaluate("document.querySelector('h1').style.color = '#ddd'")
    (fault,) = faults(found, within="header", runOnly=["color-contrast"])
    assert fault.startswith("color-contrast: ['h1']")


def test_headings_go_down_by_one_and_ids_and_links_are_whole(open_page: Open) -> None:
    found = open_page()
    found.open_details()
    levels = [
        int(tag[1])
        for tag in found.page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(e => e.tagName)")
    ]
    assert levels[:2] == [1, 2]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = found.page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    links = found.page.evaluate(
        "[...document.querySelectorAll('a[href^=\"#\"]')].map(e => e.getAttribute('href').slice(1))"
    )
    assert {"main", "repeat"} <= set(links) <= set(ids)


def test_a_keyboard_skips_to_the_results(open_page: Open) -> None:
    found = open_page()
    found.page.keyboard.press("Tab")
    skip = found.page.get_by_role("link", name="Skip to the results")
    assert skip.evaluate("each => each === document.activeElement && each.getBoundingClientRect().left >= 0")
    found.page.keyboard.press("Enter")
    assert found.page.evaluate("location.hash") == "#main"


SORTED = """(table) => {  // direction that a screen reader hears; null: of several columns, or not so sorted
  const heads = [...table.querySelectorAll("[aria-sort]")];
  if (heads.length !== 1 || heads[0] !== document.activeElement.parentElement) return null;
  const cells = [...table.tBodies[0].rows].map((row) => row.cells[row.cells.length - 1]);
  const keys = cells.map((cell) => cell.textContent.trim() && (cell.dataset.order ?? cell.textContent.trim()));
  const sign = heads[0].ariaSort === "ascending" ? 1 : -1;
  const compare = keys.some(isNaN) ? new Intl.Collator("en", { numeric: true }).compare : (a, b) => a - b;
  const inOrder = (a, b) => b === "" || (a !== "" && sign * compare(a, b) <= 0);  // what is empty stays last
  return keys.slice(1).every((key, n) => inOrder(keys[n], key)) ? heads[0].ariaSort : null;
}"""


def test_a_keyboard_sorts_every_table_and_a_screen_reader_hears_how(open_page: Open) -> None:
    found = open_page()
    found.open_details()
    tables = found.page.locator("table.sortable").all()
    assert len(tables) > 0
    for table in tables:
        table.locator("thead tr").last.get_by_role("button").last.focus()
        for direction in ("ascending", "descending"):
            found.page.keyboard.press("Enter")
            assert table.evaluate(SORTED) == direction


GAINS = """(table) => {
  const at = [...table.tHead.rows[0].cells].findIndex((head) => head.textContent.trim() === "Gain");
  return [...table.tBodies[0].rows].map((row) => row.cells[at].textContent.trim());
}"""


def test_cells_without_a_gain_stay_below_those_that_have_one(open_page: Open) -> None:
    table = open_page().page.locator("table.sortable", has_text="Table 2, all arms").first
    for _ in ("ascending", "descending"):
        table.get_by_role("button", name="Gain").click()
        gains = table.evaluate(GAINS)
        assert gains[0]
        assert not gains[-1]


def test_the_page_prints_with_all_that_was_closed_but_runs_and_config(open_page: Open, tmp_path: Path) -> None:
    found = open_page()
    closed = "[...document.querySelectorAll('details')].filter((each) => !each.open).length"
    n_closed = found.page.evaluate(closed)
    left = "document.querySelectorAll('main details:not([open], .cell, .cell *, #repeat *)').length"
    found.page.evaluate(f"addEventListener('beforeprint', () => {{ window.closed_in_print = {left}; }})")
    runs = "document.querySelectorAll('.cell[open]').length"
    found.page.evaluate(f"addEventListener('beforeprint', () => {{ window.runs_in_print = {runs}; }})")
    found.page.pdf(path=tmp_path / "page.pdf", format="A4")
    assert len(re.findall(rb"/Type\s*/Page\b", (tmp_path / "page.pdf").read_bytes())) > 1
    assert found.page.evaluate("[window.closed_in_print, window.runs_in_print]") == [0, 0]
    assert found.page.evaluate(closed) == n_closed > 0


def test_tables_and_details_can_be_read_without_script(open_page: Open) -> None:
    found = open_page(java_script_enabled=False)
    card = found.page.locator("#cell-baby-freedom-cliper")
    assert found.page.locator("#answer table").first.is_visible()
    assert not card.locator("table").first.is_visible()
    card.locator("summary").first.click()
    assert card.locator("table").first.is_visible()


# what a reader does


def item_view(found: Opened) -> str:
    return found.page.locator("#item-view").inner_text()


def search(found: Opened, text: str) -> None:
    """As one who types and presses Enter."""
    found.page.locator("#item-search").fill(text)
    found.page.keyboard.press("Enter")


def test_a_number_leads_to_its_runs_and_their_curves(open_page: Open) -> None:
    found = open_page()
    card = found.page.locator("#cell-baby-freedom-cliper")
    assert card.get_attribute("open") is None
    found.page.locator("table a[href='#cell-baby-freedom-cliper']").first.focus()
    found.page.keyboard.press("Enter")
    canvas = card.locator("canvas").first
    canvas.wait_for()
    assert canvas.evaluate("""(drawn) =>
        drawn.getContext("2d").getImageData(0, 0, drawn.width, drawn.height).data.some((value) => value > 0)""")
    assert card.locator("table").first.locator("tbody tr").count() == len(toy_report.SEEDS)
    assert (found.requested, found.said) == ([], [])


@pytest.mark.parametrize("text", ["reading BRASS", toy_report.LAMP_ASIN.lower()])
def test_an_item_is_found_by_title_and_by_asin(open_page: Open, text: str) -> None:
    found = open_page()
    search(found, "B0TOYS0001")
    assert toy_report.LAMP_TITLE not in item_view(found)
    search(found, text)
    assert toy_report.LAMP_TITLE in item_view(found)
    assert toy_report.LAMP_ASIN in item_view(found)


def test_a_search_without_an_answer_says_so(open_page: Open) -> None:
    found = open_page()
    before = item_view(found)
    search(found, "<b>no such item")
    assert item_view(found) == before
    assert "No item found" in found.page.locator("[role=status]").all_inner_texts()[0]


def test_words_that_were_not_read_are_marked(open_page: Open) -> None:
    found = open_page()
    search(found, toy_report.LAMP_ASIN)
    found.page.locator("#item-arm").select_option("cliper")
    words = found.page.locator("#item-view .cut").all_inner_texts()
    description = toy_report.items()["description"][toy_report.LAMP].split()
    assert words == description[toy_report.CUT_FROM :]
    assert len(words) > 5


def test_two_arms_are_compared_for_a_user(open_page: Open) -> None:
    found = open_page()
    for select, value in (("user-pick", "1"), ("user-backbone", "freedom")):
        found.page.locator(f"#{select}").select_option(value)
    hits = found.page.locator("#items .hit")
    for pair, n_hits in ((("vanilla", "cliper"), 2), (("cliper", "cliper"), 4), (("vanilla", "vanilla"), 0)):
        for number, arm in enumerate(pair, start=1):
            found.page.locator(f"#list-arm-{number}").select_option(arm)
        assert hits.count() == n_hits
    found.page.locator("#user-backbone").select_option("lightgcn")
    assert found.page.locator("#list-arm-1").input_value() == "content_free"


def test_every_hostile_item_is_shown_as_text(open_page: Open) -> None:
    found = open_page()
    for place in range(2):
        found.page.locator("#item-dataset").select_option(str(place))
        for item in toy_report.items().filter(pl.col("asin").is_not_null())[: len(toy_report.HOSTILE)].to_dicts():
            search(found, item["asin"])
            shown = media.picture(item["title"] or "no title")
            assert " ".join(shown.split()) in " ".join(item_view(found).split())
    require_only_text(found)
    assert (found.requested, found.said) == ([], [])


def test_tab_reaches_every_control_and_never_stays(open_page: Open) -> None:
    found = open_page()
    found.page.evaluate("window.reached = []; addEventListener('focusin', (event) => reached.push(event.target.id))")
    n_controls = found.page.evaluate("""() => [...document.querySelectorAll(
        "a[href], button, input, select, summary, [tabindex='0']")].filter((each) => each.checkVisibility()).length""")
    for _ in range(n_controls + 1):
        found.page.keyboard.press("Tab")
    reached = found.page.evaluate("reached")
    assert {"item-search", "item-arm", "user-pick", "user-backbone", "list-arm-1", "list-arm-2"} <= set(reached)
    assert found.page.evaluate("document.activeElement.tagName") == "BODY"


# what is missing is named


@pytest.mark.parametrize(
    ("result", "more", "command"),
    [
        ("run", {"dataset": "baby", "backbone": "freedom", "arm": "cliper", "seed": 1}, "train"),
        ("history", {"dataset": "baby", "backbone": "freedom", "arm": "cliper", "seed": 2}, "train"),
        ("metrics", {"dataset": "toys", "backbone": "lightgcn", "arm": "content_free", "seed": 1}, "evaluate"),
        ("figure", {"figure": "curves", "format": "svg"}, "plot"),
        ("explored", {"dataset": "toys"}, "explore"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_missing_is_an_error_that_names_its_command(
    report: Report, result: str, more: dict[str, Any], command: str
) -> None:
    path = toy.path(report.config, result, **more)
    hidden = path.rename(path.with_name("hidden"))
    before = report.file.stat().st_mtime_ns
    try:
        with pytest.raises(DataError, match=rf"{path.name} is missing\. Run: python -m cliper {command}"):
            toy.run("report", report.config)
    finally:
        hidden.rename(path)
    assert report.file.stat().st_mtime_ns == before
