"""Numbers as cells of the page's tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cliper.report.pages.rendering import Value
from cliper.report.pages.words import change, interval, mean_text

VERDICTS = {"reproduced": "good", "not reproduced": "bad", "impossible": "odd", "not run": "quiet"}  # their looks
LAST = -1e9  # what is not there is sorted below all numbers


def count(n: int) -> Value:
    """A count as a cell.

    >>> count(1234)
    Value(text='1,234', order=1234, kind='number', link=None)
    """
    return Value(f"{n:,}", n, "number")


def decimal(number: float, form: str = ".2f") -> Value:
    """A number as a cell, sorted by all its digits."""
    return Value(format(number, form), number, "number")


def p_text(p: float) -> str:
    """A p-value.

    >>> p_text(0.0321), p_text(1.0), p_text(1e-5)
    ('0.032', '1', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def p_value(p: float) -> Value:
    """A p-value as a cell."""
    return Value(p_text(p), p, "number")


def number(row: Mapping[str, Any] | None, place: int = 0, link: str | None = None) -> Value:
    """A mean that leads to its runs; place 1 is the best of its group, 2 the second."""
    mean = None if row is None else row["mean"]
    if row is None or mean is None:
        return Value("not run", LAST, "quiet")
    look = {1: "number best", 2: "number second"}.get(place, "number")
    return Value(mean_text(mean, row["sd"]), mean, look, link)


def compared(row: Mapping[str, Any]) -> list[Value]:
    """Gain, interval and p of a number."""
    if row["gain"] is None:
        return [Value("", LAST, "number")] * 3
    look = f"number {'good' if row['low'] > 0 else 'bad'}" if row["established"] else "number"
    low, high = row["gain_low"], row["gain_high"]
    return [
        Value(change(row["gain"]) + " †" * bool(row["established"]), row["gain"], look),
        Value("", LAST, "number") if low is None else Value(interval(low, high), low, "number"),
        p_value(row["p_holm"]),
    ]


def of_the_paper(row: Mapping[str, Any]) -> list[Value]:
    """What the paper printed, and what our runs say of it."""
    if row["paper"] is None:
        return [Value("", LAST, "number"), Value("")]
    verdict = row["verdict"]
    return [decimal(row["paper"]), Value(verdict, kind=VERDICTS.get(verdict, ""))]
