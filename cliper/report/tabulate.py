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
from cliper.report.tables import lint, study, table1, table2
from cliper.report.tables.printed import short_k
from cliper.report.tables.reading import read_comparisons, read_metrics
from cliper.report.tables.trials import SearchTables, trials_grid, trials_long


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


def read_search(at: At, dataset: str, backbone: str, arm: str) -> SearchTables:
    """Read the trials of one search, and what they are worth on test."""
    names = {"dataset": dataset, "backbone": backbone, "arm": arm}
    tables = (files.read_table(at(kind, **names), kind) for kind in ("trials", "hindsight"))
    return SearchTables(dataset, backbone, arm, *tables)


def run(job: decides.Table1 | decides.Table2 | decides.Study | decides.Trials, at: At) -> None:
    """Read the numbers of the whole run and write one table in all its forms."""
    if isinstance(job, decides.Table1):
        log.note(f"reads the counts of {len(job.titles)} datasets")
        counts = ((title, at("counts", dataset=dataset)) for dataset, title in job.titles.items())
        long = table1.long((title, files.read_table(path, "counts")) for title, path in counts)
        grid = short = table1.grid(long)
    elif isinstance(job, decides.Table2):
        log.note(f"reads the metrics of {len(job.cells)} cells and {len(job.comparisons)} comparisons")
        metrics, comparisons = read_metrics(at, job.cells), read_comparisons(at, job.comparisons)
        tests = {name: files.read_table(at("test", dataset=name), "test", columns=["user"]) for name in job.titles}
        n_relevant = {name: test["user"].value_counts()["count"].to_numpy() for name, test in tests.items()}
        long = table2.long(metrics, comparisons, job, n_relevant=n_relevant)
        require_possible(long)
        grid, short = table2.grid(long, job), table2.short_grid(long, job)
    elif isinstance(job, decides.Trials):
        log.note(f"reads the trials of {len(job.searches)} searches")
        long = trials_long(read_search(at, *names) for names in job.searches)
        grid = short = trials_grid(long, titles=job.titles, backbones=job.backbones, seed=job.seed)
    else:
        log.note(f"reads the metrics of {len(job.cells)} cells and {len(job.comparisons)} comparisons")
        long = study.long(read_metrics(at, job.cells), read_comparisons(at, job.comparisons), job)
        grid = study.grid(long, job, cutoffs=job.shown.cutoffs)
        short = study.grid(long, job, cutoffs=(short_k(job.shown.cutoffs),))
    markdown = grid.as_markdown()
    if isinstance(job, decides.Table2):
        markdown += f"\n{table2.cells_grid(long, job).as_markdown()}"
    forms = {"csv": long.write_csv(), "md": markdown, "tex": grid.as_latex(), "txt": short.as_text()}
    for form, text in forms.items():
        files.write_text(at("table", format=form), text)
    log.account(f"{at.names['table']}: {long.height} numbers")
