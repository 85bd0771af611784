"""Does CLIPER help, by how much, how sure: the headline, gains with intervals, Table 2, the runs behind each number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import polars as pl

from cliper.config import decides
from cliper.layout import At
from cliper.report.pages import cells
from cliper.report.pages.gains import Difference, differences, forest
from cliper.report.pages.inputs import table2_of
from cliper.report.pages.rendering import Section, Table, Value
from cliper.report.pages.values import compared, number, of_the_paper
from cliper.report.pages.words import counted, lead, metric_name, name_of_arm, spread
from cliper.report.tables import table2
from cliper.report.tables.made import made_for
from cliper.report.tables.numbers import AT, CELL, places
from cliper.report.tables.printed import metric_title

MAIN = "CLIPER"
WAYS = (("better", 1), ("worse", -1))
SAID = ("reproduced", "within noise", "not reproduced", "impossible", "not run")  # verdicts, in a sentence's order


def headline(job: decides.Page, at: At) -> str:
    """The answer in a sentence, and one on the paper's numbers where it printed some of the run's cells."""
    table = table2_of(job, "table2_fair")
    long = made_for(job, at, "table2_fair").long
    return " ".join([*answers(differences(job, table, long), metric_name(*lead(table))), *of_paper(long)])


def answers(found: Sequence[Difference], metric: str) -> Iterator[str]:
    """Sentences on all comparisons: CLIPER's, or the first arm's, then how many of the others are established."""
    if not found:
        yield "This run compares no arms, so it does not say whether CLIPER helps."
        return
    main = MAIN if any(each.arm == MAIN for each in found) else found[0].arm
    own, others = ([each for each in found if (each.arm == main) is is_main] for is_main in (True, False))
    yield _answer(own, metric)
    if others:
        n, arms = sum(each.sign != 0 for each in others), {each.arm for each in others}
        among = f"{counted(len(others), 'difference')} of {counted(len(arms), 'other arm')}"
        yield f"Of {among}, {n or 'none'} {'is' if n == 1 else 'are'} established."


def _answer(found: Sequence[Difference], metric: str) -> str:
    """One arm's answer."""
    arm, base, n = found[0].arm, found[0].base, len(found)
    gains, ways = [each.gain for each in found if each.gain is not None], Counter(each.sign for each in found)
    changes = f"{metric} changes by {spread(gains)}" if gains else f"{metric} has no relative change"
    where = f"over {_places(found)} {changes}"
    if all(each.band is None for each in found):
        return (
            f"With one run of each arm nothing can be established: against {base} at equal width, {where} with {arm}."
        )
    if not ways[1] + ways[-1]:
        none = "the difference is not established" if n == 1 else f"none of {n} differences is established"
        return f"At equal width, {arm} is not shown to beat {base}: {where}, and {none}."
    parts = [_established(name, [each for each in found if each.sign == sign]) for name, sign in WAYS]
    if not ways[1]:
        parts.reverse()
    rest = f"; {ways[0]} {'is' if ways[0] == 1 else 'are'} not established" if ways[0] else ""
    return (
        f"At equal width, in {counted(n, 'comparison')} with {base} on {metric}, {arm} is established "
        f"{' and '.join(parts)}{rest}."
    )


def _established(name: str, found: Sequence[Difference]) -> str:
    """How many differences go one way, and how far."""
    gains = [each.gain for each in found if each.gain is not None]
    return f"{name} in {len(found) or 'none'}" + (f" ({spread(gains)})" if gains else "")


def _places(found: Sequence[Difference]) -> str:
    """Where arms were compared, in words."""
    backbones, datasets, widths = ({each[place] for each in found} for place in (1, 0, 3))
    on = found[0].dataset if len(datasets) == 1 else counted(len(datasets), "dataset")
    at = f" at {len(widths)} widths" if len(widths) > 1 else ""
    return f"{counted(len(backbones), 'backbone')} on {on}{at}"


def of_paper(long: pl.DataFrame) -> Iterator[str]:
    """A sentence on the paper's numbers, if it printed some of these cells."""
    found = Counter(long["verdict"].drop_nulls())
    if found:
        said = [f"{found[verdict]} {verdict}" for verdict in SAID if found[verdict]]
        yield f"Of the paper's {counted(found.total(), 'number')} for these cells: {', '.join(said)}."


def section(job: decides.Page, at: At) -> Section:
    """Gains, tables, and a card for each cell."""
    fair, own = table2_of(job, "table2_fair"), table2_of(job)
    long = made_for(job, at, "table2_fair").long
    found = differences(job, fair, long)
    is_one = (fair.cells, fair.comparisons) == (own.cells, own.comparisons)
    tables = [numbers_table(job, fair, long, "Table 2, all arms at equal width")]
    if not is_one:
        tables.append(numbers_table(job, own, made_for(job, at, "table2").long, "Table 2, each arm at its own width"))
    seeds, *notes = table2.notes(fair)
    values = {
        "metric": metric_name(*lead(fair)),
        "bases": ", ".join(dict.fromkeys(each.base for each in found)),
        "forest": forest(found),
        "tables": tables,
        "is_one": is_one,
        "seeds": seeds,
        "notes": notes,
        "cells": cells.cards(job, fair, long, at),
    }
    return Section("answer", "Does CLIPER help?", values)


def numbers_table(job: decides.Page, table: decides.Table2, long: pl.DataFrame, caption: str) -> Table:
    """A row for each dataset, backbone and arm; each number leads to its runs."""
    first = lead(table)
    numbers = list(dict.fromkeys(long.select(AT).iter_rows()))
    numbers.sort(key=lambda each: (each != first, each[1] != first[1]))
    has = {name: long[name].is_not_null().any() for name in ("p", "paper")}
    place = dict(zip(long.select(*CELL, *AT).iter_rows(), places(long, ["dataset", "backbone", *AT]), strict=True))
    rows, several, widths = [], len(table.titles) > 1, len(set(table.widths.values())) > 1
    for key, part in long.group_by(CELL, maintain_order=True):
        dataset, backbone, arm = map(str, key)
        by_number = {(row["metric"], row["k"]): row for row in part.iter_rows(named=True)}
        link = cells.id_of(dataset, backbone, arm)
        values = [number(by_number.get(each), place.get((*key, *each), 0), link) for each in numbers]
        d = Value(str(table.widths.get(arm, "")), table.widths.get(arm, 0), "number")
        rows.append(
            [
                *[table.titles[dataset]] * several,
                table.backbones[backbone],
                Value(name_of_arm(job, arm), link=link),
                *[d] * widths,
                values[0],
                *(compared(by_number[first]) if has["p"] else ()),
                *(of_the_paper(by_number[first]) if has["paper"] else ()),
                *values[1:],
            ]
        )
    heading = [
        *["Dataset"] * several,
        *("Backbone", "Arm", *["d"] * widths, metric_title(*first)),
        *(["Gain", "95 % interval", "p (Holm)"] if has["p"] else ()),
        *(["Paper", "Verdict"] if has["paper"] else ()),
        *(metric_title(*each) for each in numbers[1:]),
    ]
    return Table(caption, heading, rows, labels=2 + several)
