"""A table as it is printed, and the forms that it is printed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from cliper.media import latex, markdown

EMPHASES = {  # place of a number among those that it is compared with -> form -> how it is printed
    1: {"markdown": "**{}**", "latex": r"\textbf{{{}}}"},
    2: {"markdown": "*{}*", "latex": r"\underline{{{}}}"},
}
SAFE: dict[str, Callable[[str], str]] = {"markdown": markdown, "latex": latex}


class Entry(NamedTuple):
    """A number, and what is printed after it.

    place  1: the best of those that it is compared with; 2: the second; 0: neither
    """

    number: str
    more: str = ""
    place: int = 0

    def __str__(self) -> str:
        return self.number + self.more


class Grid(NamedTuple):
    """One heading, rows of texts and numbers, notes below.

    labels  columns at the left that name a row; the others have numbers
    groups  of columns, a name above each heading; "" where there is none
    notes   how the numbers were made
    signs   what the signs in the table mean
    """

    heading: list[str]
    rows: list[list[str | Entry]]
    notes: tuple[str, ...] = ()
    signs: tuple[str, ...] = ()
    labels: int = 1
    groups: tuple[str, ...] = ()

    @property
    def flat_heading(self) -> list[str]:
        """The heading in one line."""
        groups = self.groups or [""] * len(self.heading)
        return [f"{group} {title}".strip() for group, title in zip(groups, self.heading, strict=True)]

    def as_markdown(self) -> str:
        """A Markdown table with the notes below it."""
        lines = [_printed(self.flat_heading, "markdown"), *(_printed(row, "markdown") for row in self.rows)]
        heading, *rows = (f"| {' | '.join(line)} |\n" for line in lines)
        rule = f"|{' --- |' * len(self.heading)}\n"
        return "".join([heading, rule, *rows, *(f"\n{markdown(note)}\n" for note in (*self.signs, *self.notes))])

    def as_text(self) -> str:
        """Columns of equal width for a terminal, with the notes below."""
        lines = [self.flat_heading, *([str(cell) for cell in row] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines.insert(1, ["-" * width for width in widths])
        table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        return "".join(f"{line.rstrip()}\n" for line in [*table, *self.signs, *self.notes])

    def as_latex(self) -> str:
        """A LaTeX tabular (package booktabs): signs explained below it, notes as comments."""
        columns = "l" * self.labels + "r" * (len(self.heading) - self.labels)
        lines = ["% needs \\usepackage{booktabs}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
        lines += [
            *self._latex_groups(),
            _latex_row(self.heading),
            *self._latex_rows(),
            r"\bottomrule",
            r"\end{tabular}",
        ]
        lines += [rf"\par\smallskip{{\footnotesize {latex(sign)}}}" for sign in self.signs]
        return "\n".join([*lines, *(f"% {latex(note)}" for note in self.notes)]) + "\n"

    def _latex_groups(self) -> Iterator[str]:
        """The line of groups, and a rule under each."""
        if not any(self.groups):
            return
        cells, rules, first = [], [], 1
        for group, columns in groupby(self.groups):
            n = len(list(columns))
            cells.append(rf"\multicolumn{{{n}}}{{c}}{{{latex(group)}}}" if group else " & " * (n - 1))
            rules += [rf"\cmidrule(lr){{{first}-{first + n - 1}}}"] if group else []
            first += n
        yield " & ".join(cells) + r" \\"
        yield "".join(rules)

    def _latex_rows(self) -> Iterator[str]:
        """A rule above each new first label; a label that only repeats the one above is left out, but for the last."""
        before: list[str | Entry] = []
        for row in self.rows:
            if row[: self.labels - 1][:1] != before[: self.labels - 1][:1] or not before:
                yield r"\midrule"
            n_same = next((i for i in range(self.labels - 1) if row[: i + 1] != before[: i + 1]), self.labels - 1)
            yield _latex_row(["" if place < n_same else cell for place, cell in enumerate(row)])
            before = row


def _latex_row(row: Sequence[str | Entry]) -> str:
    return " & ".join(_printed(row, "latex")) + r" \\"


def _printed(row: Sequence[str | Entry], form: str) -> list[str]:
    entries = (cell if isinstance(cell, Entry) else Entry(cell) for cell in row)
    safe = SAFE[form]
    return [EMPHASES[e.place][form].format(safe(e.number)) + safe(e.more) if e.place else safe(str(e)) for e in entries]
