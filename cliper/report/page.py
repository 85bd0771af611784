"""Write one page with all results of a run: `index.html`, which needs no network and no other file.

In:   the tables and figures of the run; metrics, comparisons, history and run.json of its cells; counts, images, token
      reports and fallbacks; explored.json; Snakemake's records of time and memory, where there are any
Out:  results/<name>/report/index.html

Every number of the page is one of these files'. Times differ from run to run, so two pages of one config are not equal
byte for byte.
"""

from __future__ import annotations

from cliper import files, log
from cliper.config import decides
from cliper.layout import At
from cliper.report.pages import answer, cost, departures, figures, items, others, repeat
from cliper.report.pages import run as what_was_run
from cliper.report.pages.rendering import render

SECTIONS = (what_was_run, answer, figures, items, departures, others, cost, repeat)


def run(job: decides.Page, at: At) -> None:
    """Gather the sections and write the page."""
    log.note(f"gathers {len(job.cells)} cells, {len(job.tables)} tables, {len(job.figures)} figures")
    sections = [each.section(job, at) for each in SECTIONS]
    page = render(
        sections, title=f"{', '.join(job.titles.values())}: CLIPER against vanilla", headline=answer.headline(job, at)
    )
    files.write_text(at("page"), page)
    log.account(f"{len(sections)} sections, {len(page.encode()) / 1e6:.1f} MB: {at('page')}")
