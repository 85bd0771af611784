"""Other people's numbers: sourced, of a named split family, never mixed."""

from __future__ import annotations

import polars as pl

from cliper.report.tables import lint
from cliper.report.tables.paper import paper_values
from cliper.report.tables.published import CELL, others_numbers, published_values

MMREC = "https://github.com/enoche/MMRec/blob/master/evaluation/README.md"
FAMILIES = {
    "mmrec": "the files of the toolbox MMRec, as the paper",
    "mmrec_random": "another random split by MMRec's author",
    "mmrec_user_time": "each user's latest are held out",
    "mmrec_global_time": "all after one time are held out",
    "lattice": "the files of LATTICE",
    "mmssl": "the files of MMSSL",
    "elliot": "the splits of Formal-MultiMod-Rec",
    "mixed": "a table whose rows are of more than one family",
}


def test_every_number_has_a_source_and_a_family() -> None:
    values = published_values()
    assert values.height > 200
    assert set(values["split_family"]) == FAMILIES.keys()
    assert set(values["metric"]) == {"recall", "ndcg"}
    assert values["percent"].is_between(0.5, 20).all()
    sources = values["source"].unique()
    assert sources.str.contains(r"^https://|\b20\d\d\b").all()
    assert values.select(*CELL, "split_family", "source", "note").is_duplicated().sum() == 0


def test_numbers_of_the_papers_family_exist_for_all_vanilla_cells_but_some_of_clothing() -> None:
    same = {*published_values().filter(split_family="mmrec").select(CELL).iter_rows()}
    vanilla = {*paper_values().filter(arm="vanilla").select(CELL).iter_rows()}
    assert len(vanilla) == 90
    # of Clothing nobody published K = 50, nor MMGCN, DualGNN and SLMRec on these files
    assert vanilla - same == {
        cell
        for cell in vanilla
        if cell[0] == "Clothing" and (cell[3] == 50 or cell[1] in ("MMGCN", "DualGNN", "SLMRec"))
    }


def test_the_papers_vanilla_columns_of_baby_and_sports_are_mmrecs_but_for_one_number() -> None:
    theirs = published_values().filter(split_family="mmrec", source=MMREC)
    both = paper_values().filter(arm="vanilla").join(theirs, on=CELL)
    assert both.height == 60
    differing = both.filter(pl.col("paper") != pl.col("percent"))
    assert differing.select(*CELL, "paper", "percent").rows() == [("Sports", "LATTICE", "ndcg", 20, 4.24, 4.21)]


def test_no_column_of_one_source_is_impossible() -> None:
    values = published_values().with_columns(arm=pl.concat_str("split_family", "source", "note", separator=" "))
    whole = values.rename({"percent": "mean"}).filter(pl.len().over(lint.COLUMN) >= 4)
    assert whole["arm"].n_unique() > 5
    faults, _ = lint.check(whole.select(*lint.KEY, "mean"), half_digit=lint.PRINTED)
    assert [str(each) for each in faults if each.k and "missing" not in each.said] == []


def test_other_families_are_shown_with_their_name_and_only_where_the_papers_own_has_none() -> None:
    shown = {row[:4]: row[4] for row in others_numbers().iter_rows()}
    assert shown["Baby", "FREEDOM", "recall", 20] == "9.92, 9.90"
    assert shown["Clothing", "MMGCN", "recall", 20] == "3.48 (elliot split), 5.01 (mixed split)"
    assert ("Clothing", "DualGNN", "recall", 20) not in shown
