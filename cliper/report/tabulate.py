"""Write one table of the paper or of a study, as CSV, Markdown and LaTeX.

table1       In: counts.  Dataset statistics, with the paper's (section 4, Table 1)
table2       In: metrics, comparisons, test.  Every dataset x backbone x arm, with the paper's numbers and verdicts
table2_fair  likewise, each arm at each width d: arms are compared at one d
search       In: trials, hindsight.  Every trial of the searches, and what choosing on test would have claimed
a study      In: metrics, comparisons.  A row for each variation, compared with the study's base
Out:         results/<name>/tabulate/<table>.csv, .md, .tex, .txt

The CSV has one row per number. Markdown and LaTeX have the paper's shape: the best in bold, the second underlined,
gains over the base, † where a difference is established; Table 2's Markdown then has a row for each number, with the
paper's and other people's. The text fits a terminal: it shows one cutoff. Percent, rounded only when printed.
"""

from __future__ import annotations

import polars as pl

from cliper import files, log
from cliper.config import decides
from cliper.errors import DataError
from cliper.layout import At
from cliper.report.tables import lint, table2
from cliper.report.tables.made import make


def require_possible(long: pl.DataFrame) -> None:
    """Raise DataError for a number that no run can have given; warn of columns that are odd as a whole."""
    faults, _ = lint.check(long)
    for odd in (each for each in faults if each.k is None):
        log.warn(str(odd))
    if wrong := [each for each in faults if each.k is not None]:
        raise DataError(
            f"{len(wrong)} numbers cannot be, so no table is written (first: {wrong[0]}). "
            "Run: python -m cliper evaluate for that cell"
        )


def run(job: decides.Table1 | decides.Table2 | decides.Study | decides.Trials, at: At) -> None:
    """Read the numbers of the whole run and write one table in all its forms."""
    log.note(f"reads {describe(job)}")
    long, grid, short = make(job, at)
    markdown = grid.as_markdown()
    if isinstance(job, decides.Table2):
        require_possible(long)
        markdown += f"\n{table2.cells_grid(long, job).as_markdown()}"
    forms = {"csv": long.write_csv(), "md": markdown, "tex": grid.as_latex(), "txt": short.as_text()}
    for form, text in forms.items():
        files.write_text(at("table", format=form), text)
    log.account(f"{at.names['table']}: {long.height} numbers")


def describe(job: decides.Table1 | decides.Table2 | decides.Study | decides.Trials) -> str:
    """What a table is made of."""
    if isinstance(job, decides.Table1):
        return f"the counts of {len(job.titles)} datasets"
    if isinstance(job, decides.Trials):
        return f"the trials of {len(job.searches)} searches"
    return f"the metrics of {len(job.cells)} cells and {len(job.comparisons)} comparisons"
