"""Figures: the same bytes on every run, what is drawn is what the CSV says, and texts from data stay texts."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import toy
from matplotlib.figure import Figure

from cliper import files
from cliper.config import Cell, Config, decides
from cliper.errors import ConfigError, DataError
from cliper.report.figures import canvas, curves, heatmap, lines, points, popularity
from cliper.report.tables.variations import DRAWN

TITLES = {"baby": "Baby"}
BACKBONES = {"freedom": "FREEDOM", "lattice": "LATTICE"}


def variations(means: list[float | None], **columns: Any) -> pl.DataFrame:
    """A study's rows at one metric: the base, then the others."""
    n = len(means)
    values: dict[str, Any] = {
        "group": ["Baby · FREEDOM"] * n,
        "varied": [""] + ["without"] * (n - 1),
        "variation": ["base", *(f"without {name}" for name in "abcdefgh"[: n - 1])],
        "value": [None] * n,
        "is_base": [True] + [False] * (n - 1),
        "metric": ["recall"] * n,
        "k": [20] * n,
        "mean": means,
        "sd": [None if mean is None else 0.1 for mean in means],
        "n_seeds": [0 if mean is None else 3 for mean in means],
        "paper": [None] * n,
        "established": [None] + [True] * (n - 1),
    }
    return pl.DataFrame(values | columns, schema=DRAWN)


def texts(figure: Figure) -> list[str]:
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text"))]


def points_of(figure: Figure) -> list[tuple[float, float]]:
    """x and y of all single points, in the order in which they were drawn."""
    drawn = [line for axis in figure.axes for line in axis.lines if line.get_marker() not in ("None", "|", "_", 2, 3)]
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in drawn if len(line.get_xdata()) == 1]


def test_named_variations_are_points_at_their_means_and_the_paper_is_among_them() -> None:
    frame = variations([10.0, 9.5, None], paper=[10.26, None, None])
    with canvas.styled():
        figure = points.draw(frame)
    assert points_of(figure) == [(10.26, 0), (10.0, 0), (9.5, 1)]
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.get_yticklabels()] == ["base", "without a", "without b"]
    assert {"not run", "paper", "Mean of 3 seeds ± standard deviation. Axes do not start at 0."} <= set(texts(figure))
    assert [container.has_xerr for container in axis.containers] == [True, True]


def test_one_seed_has_no_bars_and_one_variation_is_drawn() -> None:
    for means in ([10.0, 9.5], [10.0]):
        with canvas.styled():
            figure = points.draw(variations(means, sd=[None] * len(means), n_seeds=[1] * len(means)))
        assert "One seed. Axes do not start at 0." in texts(figure)
        assert not any(container.has_xerr for container in figure.axes[0].containers)


def test_a_number_that_varies_is_a_line_and_a_base_without_a_value_a_level() -> None:
    frame = variations([9.9, 10.0, 9.5, 9.7], value=[None, 0.05, 0.7, 0.5], paper=[None, 10.28, 10.16, None])
    with canvas.styled():
        figure = lines.draw(frame, what="temperature τ")
        level, line, *_, printed = figure.axes[0].lines
    assert set(level.get_ydata()) == {9.9}
    assert list(zip(line.get_xdata(), line.get_ydata(), strict=True)) == [(0.05, 10.0), (0.5, 9.7), (0.7, 9.5)]
    assert list(printed.get_ydata()) == [10.28, 10.16]
    assert figure.axes[0].get_xscale() == "log"
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["0.05", "0.5", "\n0.7"]


def weights() -> pl.DataFrame:
    """Three items: a is closest twice, b once; item 3 has no image."""
    ranks = {0: (1, 2), 1: (1, 2), 2: (2, 1), 3: (None, None)}
    rows = [(item, view, rank) for item, pair in ranks.items() for view, rank in zip("ab", pair, strict=True)]
    return pl.DataFrame(rows, schema={"item": pl.Int32, "view": pl.String, "rank": pl.Int16}, orient="row")


def test_ranks_begin_at_0_and_items_without_an_image_have_none() -> None:
    ranks = heatmap.count_ranks(weights())
    assert ranks.select("view", "rank", "n_items").rows() == [("a", 0, 2), ("a", 1, 1), ("b", 0, 1), ("b", 1, 2)]
    assert ranks["share"].to_list() == pytest.approx([2 / 3, 1 / 3, 1 / 3, 2 / 3])
    assert ranks["mean_rank"].to_list() == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3])


def test_the_interval_of_a_mean_rank_is_the_bootstraps_over_items() -> None:
    """Slow twin: items drawn one by one."""
    rng = np.random.default_rng(5)
    ranks = rng.integers(1, 5, size=200)
    rows = [
        (item, view, rank)
        for item, own in enumerate(ranks)
        for view, rank in (("a", own), ("b", 4), ("c", 4), ("d", 4))
    ]
    frame = pl.DataFrame(rows, schema={"item": pl.Int32, "view": pl.String, "rank": pl.Int16}, orient="row")
    drawn = [rng.choice(ranks - 1, size=200).mean() for _ in range(4000)]
    own = heatmap.count_ranks(frame).filter(view="a").row(0, named=True)
    assert (own["low"], own["high"]) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.02)


def test_a_view_that_is_close_and_missed_correlates_positively() -> None:
    ranks = pl.DataFrame({"view": ["a", "b", "c"], "mean_rank": [0.1, 1.0, 1.9]})
    drops = pl.DataFrame({"view": ["a", "b", "c"], "drop": [3.0, 2.0, 1.0]})
    assert heatmap.correlate(ranks, drops) == pytest.approx((1, 1))
    assert heatmap.correlate(ranks, drops.with_columns(drop=-pl.col("drop"))) == pytest.approx((-1, -1))
    assert heatmap.correlate(ranks, drops[:2]) == (None, None)
    assert heatmap.correlate(ranks, drops.with_columns(drop=1.0)) == (None, None)


def test_recall_by_popularity_coverage_and_gini_by_hand() -> None:
    # items 0 to 3 with 3, 1, 0, 0 interactions in train: deciles 10, 8, 4, 4
    by_item = popularity.deciles(pl.DataFrame({"item": [0, 0, 0, 1]}, schema={"item": pl.Int32}), n_items=4)
    topk = pl.DataFrame({"user": [0, 0, 1, 2], "rank": [1, 2, 1, 1], "item": [0, 2, 0, 3]})
    test = pl.DataFrame({"user": [0, 0, 1], "item": [2, 1, 0]})
    measured = popularity.measure(topk, test, by_item)
    assert measured.rows() == [  # user 2 has no test item
        *(("recall", 4, 1.0, 1), ("recall", 8, 0.0, 1), ("recall", 10, 1.0, 1)),
        *(("coverage", None, 0.5, 4), ("gini", None, pytest.approx(7 / 12), 4)),  # items are there 2, 0, 1, 0 times
    ]


def cells(make: Any) -> pl.DataFrame:
    """Two backbones, two arms, two seeds."""
    tables = [
        make(seed + 10 * number).select(
            *(pl.lit(v).alias(n) for n, v in (("dataset", "baby"), ("backbone", b), ("arm", a), ("seed", seed))),
            pl.all(),
        )
        for b in BACKBONES
        for number, a in enumerate(("vanilla", "cliper"))
        for seed in (1, 2)
    ]
    return pl.concat(tables)


def history(seed: int) -> pl.DataFrame:
    n = 3 + seed % 10
    return pl.DataFrame({"epoch": range(1, n + 1), "loss": [1.0] * n, "valid_recall@20": [0.01 * seed] * n})


def lists(seed: int) -> pl.DataFrame:
    rows = [("recall", decile, 0.01 * decile + 0.001 * seed, 9) for decile in range(1, 11)]
    return pl.DataFrame(rows, schema=["quantity", "decile", "value", "n"], orient="row")


def test_the_mean_curve_ends_where_the_first_seed_stops() -> None:
    with canvas.styled():
        figure = curves.draw(cells(history), TITLES, BACKBONES)
    thick = [line for line in figure.axes[0].lines if line.get_linewidth() > 1]
    assert [list(line.get_xdata()) for line in thick] == [[1, 2, 3, 4], [1, 2, 3, 4]]  # seeds of 4 and 5 epochs
    assert thick[0].get_ydata()[0] == pytest.approx(1.5)  # percent, of seeds 1 and 2


def all_figures() -> dict[str, Figure]:
    titled = {"dataset": pl.lit("baby"), "arm": pl.lit("cliper"), "spearman": pl.lit(0.5), "kendall": pl.lit(0.5)}
    return {
        "points": points.draw(variations([10.0, 9.5, None], paper=[10.26, None, None])),
        "lines": lines.draw(variations([10.0, 9.5, 9.7], value=[0.05, 0.7, 0.5]), what="τ"),
        "heatmap": heatmap.draw(heatmap.count_ranks(weights()).with_columns(**titled), TITLES),
        "popularity": popularity.draw(popularity.summarise(cells(lists)), TITLES, BACKBONES),
        "curves": curves.draw(cells(history), TITLES, BACKBONES),
    }


def hashes(folder: Path) -> list[str]:
    """Draw all kinds of figures; a line for each file."""
    with canvas.styled():
        for name, figure in all_figures().items():
            for form in canvas.FORMATS:
                canvas.write(figure, folder / f"{name}.{form}", form)
    return [f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in sorted(folder.iterdir())]


def test_another_process_draws_the_same_bytes(tmp_path: Path) -> None:
    code = "import sys, pathlib, test_figures as t; print(*t.hashes(pathlib.Path(sys.argv[1])), sep='\\n')"
    path = [str(toy.REPOSITORY / "tests"), str(toy.REPOSITORY)]
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path}; {code}", str(tmp_path / "other")],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONHASHSEED": "7", "HOME": str(tmp_path), "SOURCE_DATE_EPOCH": "1"},
    )
    assert ran.stdout.splitlines() == hashes(tmp_path / "own")
    assert len(ran.stdout.splitlines()) == 15


@pytest.mark.parametrize("text", ["$x_1$", "<script>alert(1)</script>", "a\x1b[31m\nb", r"$\frac{1$ --> ]]>"])
def test_a_title_is_text_in_every_format(text: str, tmp_path: Path) -> None:
    shown = text.replace("\x1b", r"\x1b").replace("\n", " ")
    with canvas.styled():
        figure = points.draw(variations([1.0, 2.0], group=[text] * 2, variation=[text, "b"]))
        assert texts(figure).count(shown) >= 2
        for form in canvas.FORMATS:
            canvas.write(figure, tmp_path / f"x.{form}", form)
    tree = ET.parse(tmp_path / "x.svg")  # noqa: S314 - our own file
    assert not [element for element in tree.iter() if isinstance(element.tag, str) and "script" in element.tag]


def figures_of(**overlay: Any) -> Config:
    run = {"datasets": ["baby"], "backbones": ["freedom"], "arms": ["vanilla", "cliper"], "seeds": [1, 2]}
    return toy.settings(name="toy", run=run, **overlay)


def test_curves_and_popularity_are_drawn_from_results(workdir: Path) -> None:
    config = figures_of()
    for cell in config.run_cells:
        write_cell(config, cell)
    pairs = pl.DataFrame({"user": [0, 0, 1], "item": [0, 1, 0], "timestamp": [None] * 3})
    for name in ("train", "test"):
        files.write_table(toy.path(config, name, dataset="baby"), name, pairs)
    items = pl.DataFrame({"item": [0, 1]}).with_columns(
        **dict.fromkeys(("asin", "title", "brand", "categories", "description", "image_url"))
    )
    files.write_table(
        toy.path(config, "items", dataset="baby"), "items", items.cast({"categories": pl.List(pl.List(pl.String))})
    )
    for figure in ("curves", "popularity"):
        toy.run("plot", config, figure=figure)
    curves_csv, popularity_csv = (pl.read_csv(f"results/toy/plot/{name}.csv") for name in ("curves", "popularity"))
    assert curves_csv.height == 4 * 2
    assert popularity_csv.filter(pl.col("quantity") == "coverage")["mean"].to_list() == [0.5, 0.5]


def write_cell(config: Config, cell: Cell) -> None:
    epochs = pl.DataFrame({"epoch": [1, 2], "loss": [0.5, 0.4], "seconds": [1.0, 1.0], "valid_recall@20": [0.1, 0.2]})
    files.write_table(toy.path(config, "history", **cell._asdict()), "history", epochs)
    topk = pl.DataFrame({"user": [0, 1], "rank": [1, 1], "item": [0, 0], "score": [1.0, 1.0]})
    files.write_table(toy.path(config, "topk", **cell._asdict()), "topk", topk)


def test_figure_5_needs_an_arm_that_weighs_its_views() -> None:
    config = toy.settings(run={"arms": ["vanilla"]})
    with pytest.raises(ConfigError, match=r"fig5 needs an arm in run\.arms that weighs its views"):
        decides.of_plot(config, figure="fig5")


def test_figure_5_has_the_correlation_with_the_study_of_views(workdir: Path) -> None:
    views = ["title", "brand", "categories"]
    study = {"title": "t", "arm": "cliper", "datasets": ["baby"], "backbones": ["freedom"], "vary": {"without": views}}
    config = figures_of(studies={"fig2": study})
    job = decides.of_plot(config, figure="fig5")
    assert isinstance(job, decides.Ranks)
    order = {"title": 1, "brand": 2, "categories": 3, "description": 4, "global": 5}
    rows = [(item, view, 0.1, 0.2, rank) for item in range(3) for view, rank in sorted(order.items())]
    table = pl.DataFrame(rows, schema=["item", "view", "similarity", "weight", "rank"], orient="row")
    files.write_table(toy.path(config, "view_weights", dataset="baby", arm="cliper"), "view_weights", table)
    recall = {"": 0.10, "title": 0.07, "brand": 0.08, "categories": 0.09}  # title is missed most
    for varied in job.drops:
        for seed in job.seeds:
            names = {**varied._asdict(), "seed": seed}
            row = {name: names[name] for name in ("dataset", "backbone", "arm", "seed")}
            row |= {"split": "test", "metric": "recall", "k": 20, "value": recall[varied.value], "n_users": 5}
            files.write_table(toy.path(config, "metrics", **names), "metrics", pl.DataFrame([row]))
    toy.run("plot", config, figure="fig5")
    drawn = pl.read_csv("results/toy/plot/fig5.csv")
    assert drawn["view"].unique(maintain_order=True).to_list() == list(order)
    assert set(drawn["spearman"]) == set(drawn["kendall"]) == {1.0}


def test_a_figure_without_its_table_names_the_command_that_makes_it(workdir: Path) -> None:
    study = {"title": "t", "arm": "cliper", "datasets": ["baby"], "backbones": ["freedom"], "vary": {"d": [64]}}
    with pytest.raises(DataError, match="Run: python -m cliper tabulate --table fig4"):
        toy.run("plot", figures_of(studies={"fig4": study}), figure="fig4")


def test_a_line_of_panels_shows_its_highest_value() -> None:
    """The first panel once fixed the axis that all of them share."""
    rows = [
        {
            "dataset": "a",
            "backbone": backbone,
            "arm": "x",
            "quantity": "recall",
            "decile": decile,
            "mean": mean,
            "sd": None,
        }
        | {"n_seeds": 1, "n": 9}
        for backbone, mean in (("low", 0.1), ("high", 0.9))
        for decile in (1, 10)
    ]
    figure = popularity.draw(
        pl.DataFrame(rows, schema_overrides={"sd": pl.Float64}), {"a": "A"}, {"low": "L", "high": "H"}
    )
    assert [axis.get_ylim()[0] for axis in figure.axes] == [0, 0]
    assert min(axis.get_ylim()[1] for axis in figure.axes) > 90
