"""What we say of the paper is in it: numbers, places, words. Needs the paper's text, which may not be shipped."""

from __future__ import annotations

import re
from functools import cache

import pytest
import toy

from cliper.report.tables.paper import METRICS, paper_values, read_paper
from cliper.report.tables.printed import gain_text

PAPER = toy.SHARED / "paper/paper.md"
pytestmark = pytest.mark.skipif(not PAPER.exists(), reason="needs ../shared")
CITED = ["config.yaml", "docs/explanation/departures.md"]
OURS = {"… is Missing."}  # quoted there, but not the paper's


@cache
def text() -> str:
    """The paper in one line, without its marks of mathematics."""
    plain = PAPER.read_text(encoding="utf-8").replace("$", "").replace(r"\lambda", "λ").replace("L_2", "L2")
    return " ".join(plain.replace("*", "").split())


def lines() -> list[list[str]]:
    return [line.split("\t") for line in PAPER.read_text(encoding="utf-8").splitlines() if "\t" in line]


def test_table_1_is_the_printed_one() -> None:
    printed = [line for line in lines() if len(line) == 5 and line[4].endswith("%")]
    assert printed == [
        [r["dataset"], *(f"{int(r[k]):,}" for k in ("users", "items", "interactions")), f"{r['density_percent']}%"]
        for r in read_paper("table1")
    ]


def test_table_2_is_the_printed_one_with_its_gains() -> None:
    backbones = next([name for name in line if name] for line in lines() if "MMGCN" in line)[3:]
    titles = {f"{metric[0]}@K": name for metric, name in METRICS.items()}
    printed, dataset, metric = [], "", ""
    for first, second, k, *cells in (line for line in lines() if "↑" in line[-1]):
        dataset, metric = first or dataset, titles.get(second, metric)
        for backbone, (vanilla, better) in zip(backbones, zip(cells[::2], cells[1::2], strict=True), strict=True):
            cliper, gain = better.removeprefix("<b>").split("</b>")
            assert gain_text(100 * (float(cliper) / float(vanilla) - 1)) == gain
            printed += [
                (dataset, backbone, arm, metric, int(k), float(value))
                for arm, value in (("vanilla", vanilla), ("cliper", cliper))
            ]
    assert sorted(printed) == sorted(paper_values().rows())


@pytest.mark.parametrize("name", CITED)
def test_words_between_quotes_are_the_papers(name: str) -> None:
    said = (toy.REPOSITORY / name).read_text(encoding="utf-8").replace("\n# ", " ").replace('", "', "")
    quoted = set(re.findall(r'"([^"]+)"', " ".join(said.split()))) - OURS
    assert len(quoted) >= 5
    assert not {words for words in quoted if words.lower() not in text().lower()}


def test_what_we_say_is_not_in_the_paper_is_not() -> None:
    body, appendix = text().split("## References")[0], text().split("## Appendix")[1]
    assert not re.search(r"\b4,?096\b|\bCNN\b|MiniLM|(?<![\d.])64(?![\d.%])", body + appendix)
