"""The page of a hostile toy run: what is in its file, and what it does in Chromium."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import toy
import toy_report
from axe_playwright_python.sync_playwright import Axe
from browser import CHROMIUM, INSTALL, NARROW, WIDE, Opened, chromium, opened
from playwright.sync_api import Browser

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
    from contextlib import ExitStack

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
  const ours = new Set(["", "application/json"]);
  const handlers = [...document.querySelectorAll("*")].flatMap((each) =>
    each.getAttributeNames().filter((name) => name.startsWith("on")).map((name) => `${each.tagName} ${name}`));
  const outside = [...document.querySelectorAll("[src], link[href], a[href], use")].flatMap((each) =>
    ["src", "href", "xlink:href"].map((name) => each.getAttribute(name) ?? "").filter((value) =>
      value && !/^(#|data:(image|,))/.test(value) && each.tagName !== "A"));
  const scripts = [...document.scripts].filter((each) => !ours.has(each.type) || each.text.startsWith("document.title"));
  const owned = document.querySelectorAll("#owned, svg[onload], [autofocus], base, iframe, object, embed, form");
  return [...handlers, ...outside, ...scripts.map((each) => each.text), ...[...owned].map((each) => each.outerHTML)];
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


def faults(found: Opened, **options: Any) -> list[str]:
    """What axe-core finds serious or critical."""
    found_by_axe = Axe().run(found.page, options={"resultTypes": ["violations"], **options}).response
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
    (fault,) = faults(found, runOnly=["color-contrast"])
    assert fault.startswith("color-contrast: ['h1']")


def test_headings_go_down_by_one_and_ids_and_links_are_whole(open_page: Open) -> None:
    found = open_page()
    found.open_details()
    levels = [int(tag[1]) for tag in found.page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(e => e.tagName)")]
    assert levels[:2] == [1, 2]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    ids = found.page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    links = found.page.evaluate("[...document.querySelectorAll('a[href^=\"#\"]')].map(e => e.getAttribute('href').slice(1))")
    assert {"main", "repeat"} <= set(links) <= set(ids)


def test_a_keyboard_skips_to_the_results(open_page: Open) -> None:
    found = open_page()
    found.page.keyboard.press("Tab")
    skip = found.page.get_by_role("link", name="Skip to the results")
    assert skip.evaluate("each => each === document.activeElement && each.getBoundingClientRect().left >= 0")
    found.page.keyboard.press("Enter")
    assert found.page.evaluate("location.hash") == "#main"


def test_a_keyboard_sorts_every_table_and_a_screen_reader_hears_how(open_page: Open) -> None:
    found = open_page()
    found.open_details()
    tables = found.page.locator("table.sortable")
    assert tables.count() > 0
    for table in tables.all():
        head = table.locator("thead tr").last.locator("th").last
        orders = []
        for direction in ("ascending", "descending"):
            head.get_by_role("button").focus()
            found.page.keyboard.press("Enter")
            assert head.get_attribute("aria-sort") == direction
            assert table.locator("[aria-sort]").count() == 1
            orders.append(table.evaluate("each => [...each.tBodies[0].rows].map(row => row.cells[row.cells.length - 1].dataset.order ?? row.cells[row.cells.length - 1].textContent.trim())"))
        assert in_order(orders[0]), orders[0]
        assert in_order(orders[1][::-1]), orders[1]


def in_order(values: list[str]) -> bool:
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return len(values) > 0  # texts are compared by the browser's own rules
    return numbers == sorted(numbers)


def test_the_page_prints_with_all_that_was_closed(open_page: Open, tmp_path: Path) -> None:
    found = open_page()
    pages = []
    for name in ("closed", "open"):
        found.page.pdf(path=tmp_path / f"{name}.pdf", format="A4")
        pages.append(len(re.findall(rb"/Type\s*/Page\b", (tmp_path / f"{name}.pdf").read_bytes())))
        found.open_details()
    assert pages[0] == pages[1] > 1


def test_tables_and_details_can_be_read_without_script(open_page: Open) -> None:
    found = open_page(java_script_enabled=False)
    assert found.page.locator("table").count() > 0
    assert found.page.locator("thead th").first.is_visible()
    assert found.page.locator("details").count() > 0


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
