"""The page's answer: its headline by hand, links that lead somewhere, and what is missing is an error, not a gap."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import toy

from cliper import files
from cliper.config import Config, decides
from cliper.config.studies import Comparison
from cliper.errors import DataError
from cliper.layout import At, Layout
from cliper.report.pages import answer, cells, others
from cliper.report.pages.answer import answers, of_paper
from cliper.report.pages.gains import Difference, differences, forest
from cliper.report.pages.rendering import Table, render
from cliper.report.tables import made
from cliper.report.tables.published import published_values

GOOD, BAD, UNSURE = 1, -1, 0


def difference(gain: float | None, sign: int = UNSURE, **changed: Any) -> Difference:
    own = Difference("Baby", "FREEDOM", "CLIPER", 64, "vanilla", gain, -9.0, 9.0, 2.0, 0.5, sign)
    return own._replace(**changed)


def said(*found: Difference) -> str:
    return " ".join(answers(found, "Recall@20"))


def test_nothing_established_is_not_called_a_victory() -> None:
    assert said(difference(-4.23), difference(1.26, backbone="BM3")) == (
        "At equal width, CLIPER is not shown to beat vanilla: over 2 backbones on Baby Recall@20 changes by −4.2 % to "
        "+1.3 %, and none of 2 differences is established."
    )
    assert said(difference(35.1)) == (
        "At equal width, CLIPER is not shown to beat vanilla: over 1 backbone on Baby Recall@20 changes by +35.1 %, "
        "and the difference is not established."
    )


def test_victories_and_losses_are_counted_and_the_rest_is_named() -> None:
    better = [difference(2.1, GOOD), difference(6.0, GOOD, dataset="Sports")]
    assert said(*better, difference(9.9, dataset="Sports", backbone="BM3")) == (
        "At equal width, in 3 comparisons with vanilla on Recall@20, CLIPER is established better in 2 (+2.1 % to "
        "+6.0 %) and worse in none; 1 is not established."
    )
    assert said(*better, difference(-3.0, BAD)) == (
        "At equal width, in 3 comparisons with vanilla on Recall@20, CLIPER is established better in 2 (+2.1 % to "
        "+6.0 %) and worse in 1 (−3.0 %)."
    )
    assert said(difference(-3.0, BAD), difference(0.0), difference(-0.04)) == (
        "At equal width, in 3 comparisons with vanilla on Recall@20, CLIPER is established worse in 1 (−3.0 %) and "
        "better in none; 2 are not established."
    )


def test_one_run_establishes_nothing_and_the_headline_says_why() -> None:
    assert said(difference(3.0, band=None), difference(5.0, band=None, dataset="Sports")) == (
        "With one run of each arm nothing can be established: against vanilla at equal width, over 1 backbone on "
        "2 datasets Recall@20 changes by +3.0 % to +5.0 % with CLIPER."
    )


def test_a_comparison_without_a_band_among_others_does_not_change_the_answer() -> None:
    assert said(difference(3.0, band=None), difference(5.0)).startswith("At equal width, CLIPER is not shown to beat")


def test_of_several_arms_the_headline_is_clipers() -> None:
    other = [difference(4.0, GOOD, arm="noise"), difference(1.0, arm="text_only")]
    assert said(*other, difference(2.0)) == (
        "At equal width, CLIPER is not shown to beat vanilla: over 1 backbone on Baby Recall@20 changes by +2.0 %, and "
        "the difference is not established. Of 2 differences of 2 other arms, 1 is established."
    )
    assert said(*other).startswith("At equal width, in 1 comparison with vanilla on Recall@20, noise is established")


def test_two_widths_are_said_and_an_arm_alone_is_compared_with_nothing() -> None:
    assert "over 1 backbone on Baby at 2 widths Recall@20" in said(difference(1.0), difference(2.0, d=512))
    assert said() == "This run compares no arms, so it does not say whether CLIPER helps."


def test_a_base_of_zero_has_no_gain_and_no_row_in_the_plot() -> None:
    assert "Recall@20 has no relative change, and" in said(difference(None))
    assert forest([difference(None)]) is None


def test_the_papers_numbers_are_counted_by_verdict() -> None:
    verdicts = ["not reproduced", None, "reproduced", "impossible", "reproduced", "within noise"]
    assert list(of_paper(pl.DataFrame({"verdict": verdicts}))) == [
        "Of the paper's 5 numbers for these cells: 2 reproduced, 1 within noise, 1 not reproduced, 1 impossible."
    ]
    assert list(of_paper(pl.DataFrame({"verdict": [None]}, schema={"verdict": pl.String}))) == []


def test_the_plot_has_its_dot_between_the_ends_of_its_interval_and_zero_in_the_axis() -> None:
    found = forest(
        [difference(2.0, low=-6.0, high=10.0, band=4.0), difference(1.0, GOOD, low=None, high=None, band=None)]
    )
    assert found is not None
    ((_, (first, second)),) = found["groups"]
    ticks = {tick["text"]: tick["at"] for tick in found["ticks"]}
    assert (ticks["0"], min(ticks.values()), max(ticks.values())) == (found["zero"], 0, 100)
    assert first["low"] < first["at"] < first["high"]
    assert first["at"] - first["low"] == pytest.approx(first["high"] - first["at"], abs=0.02)  # 2 is midway
    assert first["band"][0] + first["band"][1] / 2 == pytest.approx(found["zero"], abs=0.02)
    assert (second["low"], second["high"], second["band"], second["sign"]) == (second["at"], second["at"], None, GOOD)


def test_datasets_keep_their_order_and_a_telephone_shows_no_two_ticks_in_one_place() -> None:
    found = forest([difference(9.0, dataset=name, low=-4.0, high=60.0) for name in ("Sports", "Baby")])
    assert found is not None
    assert [name for name, _ in found["groups"]] == ["Sports", "Baby"]
    shown = [tick["at"] for tick in found["ticks"] if not tick["is_inner"]]
    assert len(shown) == 2  # the axis begins too close to 0
    assert shown == [found["zero"], 100]


# A whole run of two seeds: FREEDOM at two widths, and LightGCN, which uses no features.

OVERLAY: dict[str, Any] = {
    "name": "toy",
    "run": {"datasets": ["baby"], "backbones": ["freedom", "lightgcn"], "seeds": [1, 2]},
    "arms": {"vanilla": {"d": 64}, "cliper": {"d": 512}},
    "tabulate": {"metrics": ["recall", "ndcg"], "cutoffs": [20, 50]},
}
VALUES = {"vanilla": 0.10, "vanilla_matched": 0.10, "cliper": 0.11, "cliper_small": 0.09, "content_free": 0.05}


def write_run(**overlay: Any) -> Config:
    """All that the page's answer reads."""
    config = toy.settings(**OVERLAY | overlay)
    job = decides.of_tabulate(config, table="table2_fair")
    assert isinstance(job, decides.Table2)
    for cell in job.cells:
        write_cell(config, cell._asdict(), VALUES[cell.arm] + cell.seed / 1000)
        if cell.arm != "content_free":
            vectors = pl.Series([[1.0, float("cliper" in cell.arm)]], dtype=pl.Array(pl.Float32, 2))
            features = pl.DataFrame({"item": pl.Series([0], dtype=pl.Int32), "image": vectors, "text": vectors})
            write(
                config, "features", features.with_columns(image_is_filled=False, text_is_filled=False), **cell._asdict()
            )
    for pair in {pair for table in ("table2", "table2_fair") for pair in config.comparisons_of(table)}:
        write_comparison(config, pair)
    for kind in ("train", "valid", "test"):
        write(config, kind, pl.DataFrame({"user": [0, 1], "item": [0, 0], "timestamp": [None] * 2}), dataset="baby")
    return config


def write(config: Config, kind: str, table: pl.DataFrame, **names: Any) -> None:
    files.write_table(toy.path(config, kind, **names), kind, table)


def write_cell(config: Config, names: dict[str, Any], value: float) -> None:
    rows = [
        (*names.values(), split, metric, k, share * value * (0.5 if metric == "ndcg" else 1) * k / 20, 5)
        for split, share in (("test", 1.0), ("valid", 2.0))
        for metric in ("ndcg", "recall")
        for k in (20, 50)
    ]
    columns = ["dataset", "backbone", "arm", "seed", "split", "metric", "k", "value", "n_users"]
    table = pl.DataFrame(rows, schema=columns, orient="row").sort("split", "metric", "k")
    write(config, "metrics", table, **names)
    history = {"epoch": [1, 2, 3], "loss": [0.7, 0.123456789, 0.1], "seconds": [1.0] * 3}
    write(config, "history", pl.DataFrame(history | {"valid_recall@20": [0.1, 0.3, 0.2]}), **names)
    train = decides.deciding(decides.of_train(config, **names))
    outcome = {"best_epoch": 2, "valid_recall@20": 0.3, "epochs": 3, "n_parameters": 1234, "device": "cpu x86_64"}
    machine = {"cpu": "A", "kernels": "AVX2", "seconds": 1.5, "peak_memory_mib": 900, "versions": {"torch": "2"}}
    run = {**names, "config": train, "code": "c0de", "search": None, **outcome, **machine}
    files.write_json(toy.path(config, "run", **names), run)


def write_comparison(config: Config, pair: Comparison) -> None:
    mean, base = VALUES[pair.arm] + 0.0015, VALUES[pair.base] + 0.0015
    own = {"n_users": 5, "n_runs": 2, "mean": mean, "base_mean": base, "sd": 0.01, "base_sd": 0.01}
    own |= {"difference": mean - base, "low": mean - base - 0.002, "high": mean - base + 0.002}
    own |= {"d_z": 0.2, "d_z_low": 0.1, "d_z_high": 0.3, "gain": mean / base - 1}
    own |= {"gain_low": mean / base - 1.02, "gain_high": mean / base - 0.98, "user_sd": 0.05}
    own |= {"p": 0.001, "p_randomised": 0.001, "band": 0.005, "p_better": 0.75}
    table = pl.DataFrame([{"metric": m, "k": k, **own} for m in ("ndcg", "recall") for k in (20, 50)])
    write(config, "comparison", table, **pair._asdict())


def gather(config: Config) -> tuple[decides.Page, At]:
    return decides.of_report(config), At(Layout(config), {})


def page_of(config: Config) -> str:
    job, at = gather(config)
    return render([answer.section(job, at), others.section(job, at)], title="Toy", headline=answer.headline(job, at))


def test_a_run_has_its_headline_and_every_link_leads_to_a_card(workdir: Path) -> None:
    page = page_of(write_run())
    assert (
        "At equal width, in 2 comparisons with vanilla on Recall@20, CLIPER is established better in 1 (+9.9 %) and "
        "worse in 1 (−9.9 %). Of the paper's 8 numbers for these cells:"
    ) in unescape(page)
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    links = set(re.findall(r'href="#([^"]+)"', page))
    assert links <= {*ids, "main"}
    arms = ("vanilla", "cliper", "vanilla_matched", "cliper_small")
    own = {*(f"cell-baby-freedom-{arm}" for arm in arms), "cell-baby-lightgcn-content_free"}
    assert {link for link in links if link.startswith("cell-")} == own


def test_a_number_of_the_table_is_the_runs_and_leads_to_them(workdir: Path) -> None:
    job, at = gather(write_run())
    fair, own = answer.section(job, at).values["tables"]
    assert isinstance(fair, Table)
    heading = ["Backbone", "Arm", "d", "R@20", "Gain", "95 % interval", "p (Holm)", "Paper", "Verdict", "N@20", "R@50"]
    assert list(fair.heading) == [*heading, "N@50"]
    rows = {(str(row[1].text), str(row[2].text)): row for row in fair.rows if not isinstance(row[2], str)}  # type: ignore[union-attr]
    assert set(rows) == {
        ("vanilla", "64"),
        ("CLIPER", "64"),
        ("vanilla", "512"),
        ("CLIPER", "512"),
        ("no features", ""),
    }
    first = rows["CLIPER", "512"][3]
    assert (first.text, first.link) == ("11.15 ± 0.07", "cell-baby-freedom-cliper")  # type: ignore[union-attr]
    assert first.order == pytest.approx(11.15)  # type: ignore[union-attr]
    assert [value.text for value in rows["CLIPER", "512"][-3:]] == ["5.58 ± 0.04", "27.88 ± 0.18", "13.94 ± 0.09"]  # type: ignore[union-attr]
    gain, small = (rows["CLIPER", d][4] for d in ("512", "64"))
    assert (gain.text, gain.kind) == ("+9.9 % †", "number good")  # type: ignore[union-attr]
    assert (small.text, small.kind) == ("−9.9 % †", "number bad")  # type: ignore[union-attr]
    assert [row[1].text for row in own.rows] == ["vanilla", "CLIPER", "no features"]


def test_a_table_is_made_once_for_headline_and_sections(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, n_made, real = write_run(), 0, made.make

    def counted(job: Any, at: At) -> made.Made:
        nonlocal n_made
        n_made += 1
        return real(job, at)

    monkeypatch.setattr(made, "make", counted)
    page_of(config)
    assert n_made == 2  # table2 and table2_fair


def test_the_band_is_a_share_of_the_base_as_the_gain_is(workdir: Path) -> None:
    job, at = gather(write_run())
    table = job.tables["table2_fair"]
    assert isinstance(table, decides.Table2)
    small, large = differences(job, table, made.made_for(job, at, "table2_fair").long)
    assert (small.arm, small.base, small.d, large.d) == ("CLIPER", "vanilla", 64, 512)
    assert large.band == pytest.approx(100 * 0.5 / 10.15)  # 0.5 points of vanilla's 10.15 %
    assert (small.sign, large.sign) == (BAD, GOOD)


def test_arms_of_one_width_have_one_table(workdir: Path) -> None:
    job, at = gather(write_run(arms={"cliper": {"d": 64}}))
    values = answer.section(job, at).values
    assert (len(values["tables"]), values["is_one"]) == (1, True)
    assert "d" not in values["tables"][0].heading


def test_a_card_has_its_runs_settings_curves_and_hashes(workdir: Path) -> None:
    config = write_run()
    job, at = gather(config)
    card = next(each for each in answer.section(job, at).values["cells"] if each["id"] == "cell-baby-freedom-cliper")
    assert card["title"] == "FREEDOM · CLIPER · d 512"
    texts = [[getattr(value, "text", value) for value in row] for row in card["runs"].rows]
    assert texts[0] == ["1", "2", "3", "30.00", "11.10", "5.55", "1.5", "900", "cpu x86_64"]
    assert card["curves"][0] == {
        "seed": 1,
        "best": 2,
        "epochs": [1, 2, 3],
        "loss": [0.7, 0.12346, 0.1],
        "recall": [10.0, 30.0, 20.0],
    }
    settings = {row[0].text: (row[1].text, row[2], row[3].text) for row in card["settings"].rows}
    assert settings["d"] == ("512", "config", "width of the backbone's embeddings")
    assert settings["edge_dropout"][2] == "share of user-item edges that training drops in each epoch"
    path = toy.path(config, "features", dataset="baby", arm="cliper")
    assert card["inputs"][0] == ("features.parquet", 1, files.sha256(path))
    assert [name for name, _, _ in card["inputs"]][1:] == ["train.parquet", "valid.parquet", "test.parquet"]
    assert ("Code of train", "c0de") in card["facts"]
    free = next(each for each in answer.section(job, at).values["cells"] if "lightgcn" in each["id"])
    assert [name for name, _, _ in free["inputs"]] == ["train.parquet", "valid.parquet", "test.parquet"]


def test_a_run_of_one_arm_has_a_page_without_comparisons(workdir: Path) -> None:
    page = unescape(page_of(write_run(run={**OVERLAY["run"], "arms": ["vanilla"]})))
    assert "This run compares no arms, so it does not say whether CLIPER helps." in page
    assert "p (Holm)" not in page
    assert 'id="cell-baby-freedom-vanilla"' in page


def test_an_arm_of_the_run_keeps_its_name_where_another_is_widened_to_it() -> None:
    names = [
        decides.of_report(toy.settings(run={"arms": arms})).widened
        for arms in (["vanilla", "cliper"], ["vanilla", "cliper_small", "cliper"])
    ]
    assert [found["cliper_small"] for found in names] == ["cliper", "cliper_small"]


def test_what_a_search_chose_is_said_but_not_of_a_width_that_was_kept(workdir: Path) -> None:
    config = write_run()
    for seed in (1, 2):
        path = toy.path(config, "run", dataset="baby", backbone="freedom", arm="cliper_small", seed=seed)
        run = json.loads(path.read_text(encoding="utf-8"))
        chosen = {"settings": {"d": 512, "reg_weight": 0.1}, "trial": 3, "valid_recall@20": 0.21, "n_trials": 8}
        run["search"] = {**chosen, "n_failed": 0}
        run["config"]["searched"] = {"dataset": "baby", "arm": "cliper", "keeps_d": True}
        files.write_json(path, run)
    job, at = gather(config)
    card = next(each for each in answer.section(job, at).values["cells"] if each["id"].endswith("cliper_small"))
    origins = {row[0].text: row[2] for row in card["settings"].rows}
    assert (origins["reg_weight"], origins["d"], origins["k"]) == ("search", "config", "config")
    assert "A search of 8 trials chose" in page_of(config)


@pytest.mark.parametrize(
    ("result", "refusal"),
    [
        ("run", r"cliper/2/run\.json is missing\. Run: python -m cliper train --dataset baby --backbone freedom"),
        ("history", r"cliper/2/history\.parquet is missing\. Run: python -m cliper train --place \S+freedom/cliper/2"),
        ("metrics", r"cliper/2/metrics\.parquet is missing\. Run: python -m cliper evaluate"),
        ("comparison", r"comparison\.parquet is missing\. Run: python -m cliper compare"),
        ("features", r"features\.parquet is missing\. Run: python -m cliper fuse"),
        ("valid", r"valid\.parquet is missing\. Run: python -m cliper catalogue"),
    ],
)
def test_a_cell_without_its_runs_is_an_error_that_says_what_to_run(workdir: Path, result: str, refusal: str) -> None:
    config = write_run()
    names = {"dataset": "baby", "backbone": "freedom", "arm": "cliper", "seed": 2}
    pair = {"base_backbone": "freedom", "base": "vanilla_matched"}
    toy.path(config, result, **names, **pair).unlink()
    with pytest.raises(DataError, match=refusal):
        page_of(config)


def test_seeds_of_different_settings_are_no_cell(workdir: Path) -> None:
    config = write_run()
    path = toy.path(config, "run", dataset="baby", backbone="freedom", arm="cliper", seed=2)
    run = json.loads(path.read_text(encoding="utf-8"))
    run["config"]["train"]["learning_rate"] = 0.5
    files.write_json(path, run)
    with pytest.raises(
        DataError, match=r"seeds 1 and 2 of baby freedom cliper have different settings\. Run: .*--seed 2"
    ):
        page_of(config)


def test_names_from_a_run_are_text(workdir: Path) -> None:
    config = write_run()
    for seed in (1, 2):
        path = toy.path(config, "run", dataset="baby", backbone="freedom", arm="cliper", seed=seed)
        run = json.loads(path.read_text(encoding="utf-8"))
        run["device"] = run["versions"]["torch"] = '</script><script>alert("1")</script>'
        files.write_json(path, run)
    assert "<script>alert" not in page_of(config)


def test_others_stand_next_to_ours_and_the_papers_with_their_split(workdir: Path) -> None:
    job, at = gather(write_run())
    (table,) = others.section(job, at).values["tables"]
    rows = [[getattr(value, "text", value) for value in row] for row in table.rows]
    assert list(table.heading) == ["Backbone", "Who", "Split", "R@20", "R@50", "N@20", "N@50"]
    of_freedom = [row for row in rows if row[0] == "FREEDOM"]
    assert of_freedom[0][1:4] == ["this run, vanilla", "", "10.15 ± 0.07"]
    assert of_freedom[1][1:4] == ["the paper", "mmrec", "9.92"]
    assert ["mmrec", "9.90"] in [row[2:4] for row in of_freedom]  # a rerun
    assert next(row[1] for row in rows if row[0] == "LightGCN") == "this run, no features"
    assert {row[0] for row in rows} == {"FREEDOM", "LightGCN"}


def test_a_shop_that_nobody_has_measured_says_so_and_the_papers_impossible_cell_stays(workdir: Path) -> None:
    datasets = {"baby": {"title": "My shop"}}
    page = unescape(page_of(write_run(datasets=datasets)))
    assert "Nobody that we know of has published numbers for My shop with these backbones." in page
    assert "Clothing, FREEDOM, vanilla, K = 50</strong>: N rises by 0.24 from K = 20" in page
    assert "the paper's" not in page.partition("</header>")[0]


def test_every_family_of_published_splits_is_explained() -> None:
    assert set(published_values()["split_family"]) == set(others.FAMILIES)


def test_an_id_is_one_word() -> None:
    assert (
        cells.id_of("baby.split-user_time", "freedom", "cliper.d-64") == "cell-baby.split-user_time-freedom-cliper.d-64"
    )
    assert not re.search(r"\s", cells.id_of("a", "b", "c"))
