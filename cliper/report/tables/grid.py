"""A table as it is printed, and the forms that it is printed in."""

from __future__ import annotations

from typing import NamedTuple

from cliper.media import latex, markdown


class Grid(NamedTuple):
    """One heading, rows of texts, notes below."""

    heading: list[str]
    rows: list[list[str]]
    notes: tuple[str, ...] = ()

    def as_markdown(self) -> str:
        """A Markdown table with the notes below it."""
        heading, *rows = (f"| {' | '.join(map(markdown, row))} |\n" for row in [self.heading, *self.rows])
        rule = f"|{' --- |' * len(self.heading)}\n"
        return "".join([heading, rule, *rows, *(f"\n{markdown(note)}\n" for note in self.notes)])

    def as_text(self) -> str:
        """Columns of equal width for a terminal, with the notes below."""
        lines = [self.heading, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines.insert(1, ["-" * width for width in widths])
        table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        return "".join(f"{line.rstrip()}\n" for line in [*table, *self.notes])

    def as_latex(self) -> str:
        """A LaTeX tabular (package booktabs) with the notes as comments."""
        body = [" & ".join(map(latex, row)) + r" \\" for row in [self.heading, *self.rows]]
        top = [rf"\begin{{tabular}}{{{'l' * len(self.heading)}}}", r"\toprule", body[0], r"\midrule"]
        notes = (f"% {latex(note)}" for note in self.notes)
        return "\n".join([*top, *body[1:], r"\bottomrule", r"\end{tabular}", *notes]) + "\n"
