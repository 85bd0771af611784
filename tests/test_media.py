"""What a shop or a stranger's config wrote is shown in a terminal, Markdown, LaTeX and HTML, and obeyed in none."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
import toy

from cliper import config, files, log, media
from cliper.__main__ import main
from cliper.collect.sources.records import ITEMS
from cliper.errors import DataError
from cliper.report.tables.grid import Entry, Grid

CONFIG = ["--config", str(toy.REPOSITORY / "config.yaml"), "toy.yaml"]
HOSTILE = [
    "\x1b]0;owned\x07",
    "\x1b[2J\x1b[H",
    "\x9b31m",
    "a\rb",
    "a\nSourceError: all is well",
    "a\vb\fc\x85d\u2028e\u2029f",
    "\b\x00\x7f",
    "safe\u202egpj.exe\u2066\u2069\u200e\u200f\u061c",
    "a | b || c",
    "`code` *bold* __init__ [link](https://x) ![i](x) ~~x~~ <b>",
    r"\input{/etc/passwd}",
    r"\write18{rm -rf /}",
    r"$ { } ~ ^ # % & _ \ ^^5cinput",
    "[9cm] *",
    "<script>alert('x')</script>",
    "\"' onerror=x &lt; {{ 7 * 7 }}",
]
ORDINARY = ["Baby", "Gâteau 蛋糕 שלום مرحبا", "👩‍👧 naïve – “x”", "a_b", "R@K", "100 (τ 0.9), x: y; z!"]
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")  # \n ends our lines


def is_safe_lines(shown: str, n_lines: int) -> bool:
    return not CONTROLS.search(shown) and shown.count("\n") == n_lines


@pytest.mark.parametrize("text", HOSTILE)
def test_no_control_reaches_a_terminal(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    log.start("crawl")
    log.note(text)
    log.account(text)
    log.warn(text)
    log.fail(f"{DataError.__name__}: {text}")
    log.show([text, text])
    shown = capsys.readouterr()
    assert is_safe_lines(shown.err, 4)
    assert is_safe_lines(shown.out, 2)
    assert [line.startswith(("cliper crawl: ", "DataError: ")) for line in shown.err.splitlines()] == [True] * 4


def test_what_is_not_seen_is_written_as_in_python() -> None:
    assert media.terminal("\x1b]0;x\x07 \x9b31m a\r\n \u202egpj") == r"\x1b]0;x\x07 \x9b31m a\r\n \u202egpj"


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_texts_stay_as_they_are(text: str) -> None:
    assert media.terminal(text) == media.markdown(text) == str(media.html(text)) == text
    assert media.latex(text).replace(r"\_", "_").replace(r"$\tau$", "τ") == text
    assert media.picture(text) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_a_markdown_table_keeps_its_rows_and_columns(text: str) -> None:
    shown = Grid(["Dataset", text], [[text, "1"], [text, text]], (text,)).as_markdown()
    *table, blank, note = shown.splitlines()
    assert is_safe_lines(shown, 6)
    assert (len(table), blank) == (4, "")
    for line in table:
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 3  # bars that are not escaped
    bare = re.sub(r"\\[^A-Za-z0-9\s]", "", "".join([*table, note]))  # Markdown reads \* as a star and no more
    assert not re.search(r"[`*\[\]<>~$&]|__|\b_|_\b", bare)


@pytest.mark.parametrize("text", HOSTILE)
def test_latex_runs_no_command_of_a_text(text: str) -> None:
    shown = Grid([text], [[Entry(text, text)], [Entry(text, place=1)]], (text,), (text,), groups=(text,)).as_latex()
    assert is_safe_lines(shown, 13)
    lines = shown.splitlines()
    assert [*lines[:3], lines[4], lines[6], *lines[9:11]] == [
        *(r"% needs \usepackage{booktabs}", r"\begin{tabular}{l}", r"\toprule", r"\cmidrule(lr){1-1}", r"\midrule"),
        *(r"\bottomrule", r"\end{tabular}"),
    ]
    assert lines[12].startswith("% ")
    commands = (r"\multicolumn{1}{c}{", "", "", r"\textbf{", r"\par\smallskip{\footnotesize ")
    for command, line in zip(commands, (lines[3], lines[5], *lines[7:9], lines[11] + r" \\"), strict=True):
        assert line.startswith(command)
        assert line.endswith(("} " if command else " ") + r"\\")
        inner = line.removeprefix(command).removesuffix(r" \\").removesuffix("}" if command else "")
        known = r"\\(?:textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar)\{\}|\{[][*]\}"
        bare = re.sub(rf"{known}|\\[{{}}$&#%_]", "", inner)
        assert not re.search(r"[\\{}$&#%_~^<>|\[\]*]", bare)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_page_has_no_tags_of_a_text(text: str) -> None:
    shown = str(media.html(text))
    assert not re.search("[<>\"']", shown)
    assert is_safe_lines(shown, 0)
    assert media.html(media.html(text)) == shown  # what is markup already stays


@pytest.mark.parametrize("text", HOSTILE)
def test_the_tools_show_a_shops_texts_safely(text: str, workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overlay = config.lay_over(toy.dataset(workdir), {"run": {"arms": ["vanilla"], "backbones": ["bpr"]}})
    overlay["datasets"]["toy"]["title"] = text
    config.write(overlay, Path("toy.yaml"))
    settings = toy.settings(**overlay)
    item = {"asin": "a1", "title": text, "brand": text, "categories": [[text]], "description": text, "image_url": text}
    table = pl.DataFrame([item], schema=ITEMS).with_row_index("item")
    files.write_table(toy.path(settings, "items", dataset="toy"), "items", table)
    assert main(["inspect", *CONFIG, "--item", "a1", "--html", "a1.html"]) == 0
    assert is_safe_lines(capsys.readouterr().out, 7)
    page = Path("a1.html").read_text(encoding="utf-8")
    assert not CONTROLS.search(page)
    assert "<script" not in page
    assert "49" not in page
    assert main(["prompt", *CONFIG, "--preview", "1", "--prompts", "as_described"]) == 0
    shown = capsys.readouterr()
    assert is_safe_lines(shown.out, 6)
    assert not CONTROLS.search(shown.err)
    assert main(["inspect", *CONFIG, "--item", text]) == 2
    assert is_safe_lines(capsys.readouterr().err, 1)


def test_a_config_that_cannot_be_is_told_of_safely(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write({"run": {"backbones": ["\x1b]0;x\x07\n"]}, "\x9b\u202e": 1}, Path("toy.yaml"))
    assert main(["doctor", *CONFIG]) == 2
    assert is_safe_lines(capsys.readouterr().err, 1)


def test_a_mirror_is_named_safely(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write(toy.dataset(workdir / "\x1b]0;x\x07\n"), Path("toy.yaml"))
    assert main(["doctor", *CONFIG]) == 2
    shown = capsys.readouterr()
    assert r"\x1b]0;x\x07\n" in shown.out
    assert not CONTROLS.search(shown.out + shown.err)


def test_only_the_log_writes_to_the_terminal() -> None:
    """But for the JSON schema, which is no data; the log escapes what it writes."""
    for path in (toy.REPOSITORY / "cliper").rglob("*.py"):
        writes = re.findall(r"sys\.(?:stdout|stderr)\.|\bprint\(", path.read_text(encoding="utf-8"))
        assert not writes or path.name in ("log.py", "schema.py", "media.py"), path
