"""The whole line through Snakemake, on the embedded shop."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import toy
import yaml
from damage import places, unseen
from line import DEMO, SNAKEMAKE, bought, call, copy_repository, in_shop, mine, plan

from cliper import config
from cliper.layout import Layout
from cliper.schemas import TABLES

OWN = """
name: own
run: {backbones: [mine], arms: [cliper], seeds: [1]}
backbones: {mine: {class: "my_backbone:MyBackbone", n_layers: 2}}
train: {max_epochs: 2}
"""
SECOND = """
name: second
train: {learning_rate: 0.001}
run: {arms: [vanilla, cliper, narrow]}
arms:
  narrow: {image: bridge, text: bridge, prompts: as_described, fusion: sa, temperature: 0.1, d: 32}
"""


FIGURES = [*SNAKEMAKE[:3], "all_figures", *SNAKEMAKE[4:], *DEMO]
OF_FREEDOM = {"train": 8, "evaluate": 8, "compare": 3, "tabulate": 3, "all_tables": 1}  # four arms, two seeds
OF_SEARCH = {"trial": 3, "select": 1, "hindsight": 1}  # LightGCN's


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository in which the demo has run."""
    folder = copy_repository(tmp_path_factory.mktemp("line") / "cliper")
    ran = call(folder, *in_shop(*SNAKEMAKE, *DEMO))
    assert ran.returncode == 0, ran.stdout
    return folder


@pytest.fixture
def edited(demo: Path) -> Iterator[Path]:
    """The same copy; what a test edits is put back."""
    paths = [
        demo / name
        for name in ("cliper/data/prompts.yaml", "cliper/models/backbones/freedom.py", "cliper/data/demo.yaml")
    ]
    before = {path: path.read_text(encoding="utf-8") for path in paths}
    yield demo
    for path, text in before.items():
        path.write_text(text, encoding="utf-8")


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def results(demo: Path, pattern: str) -> list[Path]:
    return sorted((demo / "results").glob(pattern))


def kind_of(table: Path) -> str:
    return str(json.loads(pl.read_parquet_metadata(table)["cliper"])["table"])


def test_the_line_ends_in_table_2(demo: Path) -> None:
    rows = list(csv.DictReader((demo / "results/demo/tabulate/table2.csv").read_text(encoding="utf-8").splitlines()))
    assert list(rows[0])[:9] == ["dataset", "backbone", "arm", "metric", "k", "mean", "sd", "n_seeds", "paper"]
    content = ("dualgnn", "freedom")
    shown = {(row["backbone"], row["arm"]) for row in rows}
    assert shown == {("lightgcn", "content_free"), *((name, arm) for name in content for arm in ("vanilla", "cliper"))}
    assert {row["n_seeds"] for row in rows} == {"2"}
    assert all(0 < float(row["mean"]) < 100 for row in rows)


def test_taste_is_strong_and_content_helps_for_every_seed(demo: Path) -> None:
    n_items = pl.read_parquet(results(demo, "shared/catalogue/*/items.parquet")[0]).height
    tables = [pl.read_parquet(path) for path in results(demo, "demo/evaluate/**/metrics.parquet")]
    recall = pl.concat(tables).filter(
        pl.col("backbone").is_in(["freedom", "lightgcn"]), split="test", metric="recall", k=20
    )
    for seed in (1, 2):
        by_arm = {row["arm"]: row["value"] for row in recall.filter(seed=seed).iter_rows(named=True)}
        assert min(by_arm["vanilla"], by_arm["cliper"]) > by_arm["content_free"] > 4 * 20 / n_items


def test_every_item_has_a_row_with_a_status_and_a_feature(demo: Path) -> None:
    items = pl.read_parquet(results(demo, "shared/catalogue/*/items.parquet")[0])
    images = pl.read_parquet(results(demo, "shared/crawl/*/images.parquet")[0])
    assert images["item"].equals(items["item"])
    assert {"ok", "http_error", "not_an_image", "truncated", "too_small", "no_url"} <= set(images["status"])
    for path in results(demo, "shared/fuse/*/*/features.parquet"):
        features = pl.read_parquet(path)
        assert features["item"].equals(items["item"])
        assert features["image_is_filled"].equals(images["status"] != "ok", null_equal=False)


def test_nothing_is_left_half_written(demo: Path) -> None:
    assert not [path for path in (demo / "results").rglob("*") if ".tmp" in path.name or ".part" in path.name]


def test_every_job_leaves_a_log_with_what_it_reads_and_its_account(demo: Path) -> None:
    logs = results(demo, "*/logs/**/*.log")
    assert len(logs) == len(results(demo, "*/benchmarks/**/*.tsv")) > 30
    for path in logs:
        first, *_, last = path.read_text(encoding="utf-8").splitlines()  # what it reads, and its account
        assert re.match(r"cliper [\w-]+: .*", first), path
        assert re.match(r"cliper [\w-]+: .*; \d+\.\d s$", last), path


def test_status_counts_the_jobs_that_snakemake_ran(demo: Path) -> None:
    shown = call(demo, SNAKEMAKE[0], "-m", "cliper", "status", "--config", "config.yaml", *DEMO[1:]).stdout
    n_jobs, n_others = len(results(demo, "*/logs/**/*.log")), 6  # four figures, explore, report: no part of all_tables
    assert shown.startswith(f"demo: {n_jobs} of {n_jobs + n_others} jobs are done\n")


@pytest.fixture(scope="module")
def drawn(demo: Path) -> Path:
    """A copy of the demo with its figures: other tests count the demo's jobs."""
    copy = Path(shutil.copytree(demo, demo.with_name("figures"), symlinks=True))
    ran = call(copy, *FIGURES)
    assert ran.returncode == 0, ran.stdout
    return copy


def test_all_figures_are_drawn_and_drawn_again_alike(drawn: Path) -> None:
    before = {path: path.read_bytes() for path in results(drawn, "demo/plot/*")}
    assert {path.stem for path in before} == {"fig2", "fig5", "popularity", "curves"}
    assert call(drawn, *FIGURES, "--forcerun", "plot").returncode == 0
    assert {path: path.read_bytes() for path in results(drawn, "demo/plot/*")} == before


def listed(html: str, name: str) -> dict[str, Any]:
    """What a page of Snakemake's lists under a name."""
    return json.loads(re.search(rf'<script id="{name}">\s*var {name} = (.*);\n', html)[1])


def test_snakemakes_report_shows_each_table_and_figure_and_the_page(drawn: Path) -> None:
    page = drawn / "results/demo/report/index.html"
    page.parent.mkdir()
    page.write_text("<h1>The page</h1>")
    ran = call(drawn, *SNAKEMAKE[:3], "paper", "--report", "shown.zip", *DEMO)
    assert ran.returncode == 0, ran.stdout
    with zipfile.ZipFile(drawn / "shown.zip") as archive:
        html = archive.read("shown/report.html").decode()
        shown, categories = (listed(html, name) for name in ("results", "categories"))
        raw = {path: archive.read(f"shown/{each['data_uri']}") for path, each in shown.items()}
    assert {path: (drawn / path).read_bytes() for path in shown} == raw
    left_out = "Views left out, and the global one alone"
    assert {path.removeprefix("results/demo/"): list(each["labels"].values()) for path, each in shown.items()} == {
        "tabulate/table1.csv": ["table1", "Datasets"],
        "tabulate/table2.csv": ["table2", "Backbones and arms"],
        "tabulate/table2_fair.csv": ["table2_fair", "Backbones and arms at each width d"],
        "tabulate/search.csv": ["search", "Searched settings"],
        "tabulate/fig2.csv": ["fig2", left_out],
        "plot/fig2.svg": ["fig2", left_out],
        "plot/fig5.svg": ["fig5", "Which view is closest to the image"],
        "plot/popularity.svg": ["popularity", "Popular and rare items"],
        "plot/curves.svg": ["curves", "Training"],
        "report/index.html": ["demo", "Everything on one page"],
    }
    assert {name: len(*of.values()) for name, of in categories.items()} == {"Tables": 5, "Figures": 4, "Report": 1}
    captions = {path: each["caption"] for path, each in shown.items()}
    assert not [path for path, caption in captions.items() if re.search("system-message|mailto:", caption)]
    assert "DualGNN   CLIPER" in captions["results/demo/tabulate/table2.csv"]  # as printed
    assert "CLIPER, run" in html


def test_a_second_run_on_another_number_of_cores_has_nothing_to_do(demo: Path) -> None:
    assert "Nothing to be done" in call(demo, *SNAKEMAKE[:-1], "1", *DEMO).stdout


def own_plan(folder: Path, *configs: str, more: tuple[str, ...] = ()) -> dict[str, int]:
    """Jobs that our own command says would run, by rule."""
    ran = call(folder, SNAKEMAKE[0], "-m", "cliper", "plan", "--config", "config.yaml", *configs, *more)
    assert ran.returncode == 0, ran.stdout
    found = re.findall(r"^([a-z-]+) +([\d,]+) of +[\d,]+ ", ran.stdout, re.MULTILINE)
    return {stage.replace("-", "_"): int(n.replace(",", "")) for stage, n in found}


TEMPLATE = ("cliper/data/prompts.yaml", "The product brand is ___.", "It is made by ___.")
EQUATION = ("cliper/models/backbones/freedom.py", "items + similar", "items + 2 * similar")


@pytest.mark.parametrize(
    ("edit", "overlay", "gone", "touched"),
    [
        (None, "", None, None),
        (TEMPLATE, "", None, None),
        (EQUATION, "", None, None),
        (None, "tabulate: {cutoffs: [20]}", None, None),
        (None, "run: {seeds: [2, 3]}", None, None),
        (None, "evaluate: {mask_valid: true}", None, None),
        (None, "", "demo/evaluate/shop/freedom/cliper/1/metrics.parquet", None),  # a figure needs it
        (None, "", "shared/prompt/shop/as_described/title-*/prompts.parquet", "shared/catalogue/*/items.parquet"),
    ],
    ids=["nothing", "template", "code", "tabulate", "seeds", "cells", "deleted", "touched"],
)
def test_plan_is_snakemakes(
    edited: Path, edit: tuple[str, str, str] | None, overlay: str, gone: str | None, touched: str | None
) -> None:
    """Target paper, whose figures, page and what that reads were never made."""
    (edited / "more.yaml").write_text(overlay or "{}")
    if edit:
        replace(edited / edit[0], *edit[1:])
    moved = {path: path.with_name("moved") for path in results(edited, gone or "none")}
    times = {path: path.stat() for path in results(edited, touched or "none")}
    try:
        for path, aside in moved.items():
            path.rename(aside)
        for path in times:
            os.utime(path)
        expected = plan(edited, *DEMO, "more.yaml", target="paper")
        assert expected.pop("paper") == 1
        assert own_plan(edited, *DEMO[1:], "more.yaml") == expected
    finally:
        for path, aside in moved.items():
            aside.rename(path)
        for path, before in times.items():
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_what_an_edit_would_cost_is_what_it_costs(edited: Path) -> None:
    before = own_plan(edited, *DEMO[1:])
    more = own_plan(edited, *DEMO[1:], more=("--set", f"prompt.as_described.brand={TEMPLATE[2]}"))
    replace(edited / TEMPLATE[0], *TEMPLATE[1:])
    assert Counter(before) + Counter(more) == Counter(own_plan(edited, *DEMO[1:]))
    why = call(edited, SNAKEMAKE[0], "-m", "cliper", "why", "table2", "--config", "config.yaml", *DEMO[1:]).stdout
    edit = "prompts.as_described.brand.prompt: 'The product brand is ___.' → 'It is made by ___.'"
    assert why.splitlines()[1:3] == ["because of:", f"  {edit}"]


def test_a_run_ends_by_saying_where_its_results_lie(demo: Path) -> None:
    table = results(demo, "demo/tabulate/table1.csv")[0]
    again = [*SNAKEMAKE[:3], "table1", *SNAKEMAKE[4:], *DEMO]
    table.unlink()
    assert "tables: results/demo/tabulate" not in call(demo, *again, "-n").stdout
    ran = call(demo, *again).stdout
    assert "\ntables: results/demo/tabulate\n" in ran
    assert "figures: " not in ran
    assert "report: " not in ran


def test_an_edited_template_plans_its_view_and_what_depends_on_it(edited: Path) -> None:
    replace(edited / "cliper/data/prompts.yaml", "The product brand is ___.", "It is made by ___.")
    assert plan(edited, *DEMO) == {
        "prompt": 2,  # brand and global
        "encode_text": 2,
        "fuse": 3,  # cliper, and the study's two variations of it
        "neighbours_items": 3,
        "train": 8,  # cliper with two backbones, its variations with FREEDOM; two seeds
        "evaluate": 8,
        "compare": 4,
        "tabulate": 3,
        "all_tables": 1,
    }


@pytest.mark.parametrize(
    ("edit", "n_fused", "n_cells"),
    [
        ("vectors: normalised", 3, 8),
        ("views: [brand, title, global]", 1, 4),
    ],  # without title, two views keep their order
)
def test_an_edited_fusion_plans_fuse_and_what_follows(edited: Path, edit: str, n_fused: int, n_cells: int) -> None:
    (edited / "more.yaml").write_text(f"arms: {{cliper: {{{edit}}}}}\n")
    assert plan(edited, *DEMO, "more.yaml") == {
        "fuse": n_fused,
        "neighbours_items": n_fused,
        "train": n_cells,
        "evaluate": n_cells,
        "compare": 4,
        "tabulate": 3,  # Table 2, at one d, and the study's
        "all_tables": 1,
    }


def test_ranges_are_jobs_of_their_own(demo: Path) -> None:
    (demo / "more.yaml").write_text("encode: {ranges: 3}\n")
    planned = plan(demo, *DEMO, "more.yaml")
    assert planned["encode_text"] == 3 * 4  # the views of both arms
    assert planned["encode_image"] == 3 * 2
    assert not planned.keys() & {"prompt", "weights", "crawl", "encode_default_image"}


def test_a_default_image_is_encoded_where_an_arm_asks_for_it(demo: Path) -> None:
    (demo / "more.yaml").write_text("arms: {cliper: {missing_image: default_image}}\n")
    planned = plan(demo, *DEMO, "more.yaml")
    assert planned["encode_default_image"] == 1
    assert planned["fuse"] == 3
    assert not planned.keys() & {"encode_text", "encode_image"}


def test_an_edited_setting_plans_the_cells_of_its_backbone(edited: Path) -> None:
    (edited / "more.yaml").write_text("backbones: {freedom: {k: 7}}\n")
    assert plan(edited, *DEMO, "more.yaml") == OF_FREEDOM


def test_an_edited_equation_plans_the_cells_of_its_backbone(edited: Path) -> None:
    replace(edited / "cliper/models/backbones/freedom.py", "items + similar", "items + 2 * similar")
    assert plan(edited, *DEMO) == OF_FREEDOM


def test_an_edited_comment_plans_nothing(edited: Path) -> None:
    replace(
        edited / "cliper/models/backbones/freedom.py", "class Freedom(Backbone):", "# why\nclass Freedom(Backbone):"
    )
    assert plan(edited, *DEMO) == {}


def test_a_second_run_plans_training_and_tables_alone(demo: Path) -> None:
    """With a name of its own, another learning rate, and an arm that differs from one of the first run in d."""
    (demo / "more.yaml").write_text(SECOND.replace("d: 32}", "d: 32, views: [title, brand, global]}"))
    assert plan(demo, *DEMO, "more.yaml") == {
        **OF_SEARCH,
        "train": 22,  # both content backbones with four arms, FREEDOM with two variations; LightGCN
        "evaluate": 22,
        "compare": 8,
        "tabulate": 5,
        "all_tables": 1,
    }


def test_two_configs_that_differ_share_no_file(demo: Path) -> None:
    table = results(demo, "shared/catalogue/*/items.parquet")[0]
    (demo / "more.yaml").write_text("datasets: {shop: {k_core: 4}}\n")
    shown = call(demo, *SNAKEMAKE, "-n", *DEMO, "more.yaml").stdout
    made = set(re.findall(r"results/shared/catalogue/shop-\w+/items.parquet", shown))
    assert made
    assert str(table.relative_to(demo)) not in made


def test_a_backbone_of_a_file_of_ones_own_is_trained_and_its_edit_runs_its_cells_again(demo: Path) -> None:
    page = (demo / "docs/howto/new-backbone.md").read_text(encoding="utf-8")
    example = page.partition("<!-- file: my_backbone.py -->\n```python\n")[2].partition("```")[0]
    (demo / "my_backbone.py").write_text(example, encoding="utf-8")
    (demo / "more.yaml").write_text(OWN)
    ran = call(demo, *SNAKEMAKE, *DEMO, "more.yaml")
    assert ran.returncode == 0, ran.stdout
    rows = csv.DictReader((demo / "results/own/tabulate/table2.csv").read_text(encoding="utf-8").splitlines())
    assert {row["backbone"] for row in rows} == {"mine"}
    assert "LightGCN + content CLIPER" in (demo / "results/own/tabulate/table2.md").read_text(encoding="utf-8")
    assert "Nothing to be done" in call(demo, *SNAKEMAKE, "-n", *DEMO, "more.yaml").stdout
    replace(demo / "my_backbone.py", "return self.ids + self.content", "return self.ids - self.content")
    assert plan(demo, *DEMO, "more.yaml") == {"train": 1, "evaluate": 1, "tabulate": 2, "all_tables": 1}
    assert plan(demo, *DEMO) == {}


def test_masking_validation_items_plans_every_cell(demo: Path) -> None:
    (demo / "more.yaml").write_text("evaluate: {mask_valid: true}\n")
    cells = {"train": 14, "evaluate": 14, "compare": 4, "tabulate": 4, "all_tables": 1}
    assert plan(demo, *DEMO, "more.yaml") == OF_SEARCH | cells


def test_one_more_seed_plans_its_cells_only(demo: Path) -> None:
    (demo / "more.yaml").write_text("run: {seeds: [1, 2, 3]}\n")
    assert plan(demo, *DEMO, "more.yaml") == {"train": 7, "evaluate": 7, "compare": 4, "tabulate": 3, "all_tables": 1}


def test_no_flipped_bit_of_the_lines_tables_goes_unseen(demo: Path) -> None:
    by_kind = {kind_of(path): path for path in results(demo, "**/*.parquet")}
    assert TABLES.keys() - by_kind.keys() == {"default_image"}
    for kind, path in by_kind.items():
        assert not unseen(path, kind, places(path.stat().st_size, 12, seed=13)), path


@pytest.mark.parametrize(
    ("kind", "reader", "planned"),
    [
        ("prompts", "encode-text", set()),
        (
            "features",
            "neighbours-items",
            {"neighbours_items", "train", "evaluate", "compare", "tabulate", "all_tables"},
        ),
        ("metrics", "tabulate", set()),
    ],
)
def test_the_command_in_the_message_makes_a_damaged_table_again(
    demo: Path, tmp_path: Path, kind: str, reader: str, planned: set[str]
) -> None:
    """Snakemake sees no damage; what depends on a table that is made again runs again if the table is large."""
    copy = Path(shutil.copytree(demo, tmp_path / "cliper", symlinks=True))
    shutil.copyfile(copy / "results/demo/config.resolved.yaml", copy / "config.yaml")
    layout = Layout(config.load([copy / "config.yaml"]))
    names = {"dataset": "shop", "encoder": "bridge", "prompts": "as_described", "view": "title"}
    names |= {"backbone": "freedom", "arm": "cliper", "seed": 1}
    table = copy / layout.path(kind, **names)
    sound, written = table.read_bytes(), table.stat()
    table.write_bytes(sound[:99] + bytes([sound[99] ^ 1]) + sound[100:])
    os.utime(table, ns=(written.st_atime_ns, written.st_mtime_ns))
    assert plan(copy, *DEMO) == {}
    job = ["--table", "table2"] if reader == "tabulate" else ["--place", layout.place(reader, **names)]
    read = [SNAKEMAKE[0], "-m", "cliper", reader, *job]
    said = call(copy, *read).stdout
    assert f"DataError: {table.relative_to(copy)} cannot be read" in said
    again = call(copy, SNAKEMAKE[0], *shlex.split(said.rpartition(" Run: python ")[2]))
    assert again.returncode == 0, again.stdout
    assert table.read_bytes() == sound
    assert call(copy, *read).returncode == 0
    assert plan(copy, *DEMO).keys() == planned


def test_training_never_sees_the_test_split(demo: Path) -> None:
    shown = call(demo, *SNAKEMAKE, "-n", "--forceall", *DEMO).stdout
    readers = {
        block.split(":")[0]
        for block in shown.split("\nrule ")[1:]
        if "/test.parquet" in block.partition("input:")[2].partition("\n")[0]
    }
    assert readers == {"evaluate", "hindsight", "tabulate"}


def test_the_shipped_config_plans_the_papers_run(demo: Path) -> None:
    planned = plan(demo)
    assert planned["download"] == 9  # with the features of 2014
    assert planned["crawl"] == 3
    assert planned["catalogue"] == 3 + 4  # four more splits of Baby
    n_studies = 5 * (4 + 6 + 3 + 3 + 1 + 5 + 4 + 2 + 1 + 3 + 8)  # seeds, cells that Table 2 at two widths has not
    assert planned["train"] == planned["evaluate"] == 3 * (5 * 4 + 2) * 5 + n_studies - 5
    assert planned["trial"] == 564


def test_given_features_plan_neither_crawl_nor_encoders(demo: Path) -> None:
    assert plan(demo, "--configfile", "tests/reference_films.yaml") == {
        "download": 5,
        "catalogue": 1,
        "fuse": 2,
        "neighbours_items": 2,
        "neighbours_users": 1,
        "train": 30,  # three backbones, two arms, five seeds
        "evaluate": 30,
        "compare": 3,
        "tabulate": 3,
        "all_tables": 1,
    }


def test_an_edited_table_in_a_folder_of_ones_own_is_taken_again(tmp_path: Path) -> None:
    folder, raw = copy_repository(tmp_path / "cliper"), tmp_path / "raw"
    raw.mkdir()
    (raw / "bought.csv").write_text(bought(product("uvw", "abcde")))
    (folder / "mine.yaml").write_text(mine(raw=raw))
    catalogue = [SNAKEMAKE[0], "-m", "snakemake", "all_catalogue", "--cores", "1", "--configfile", "mine.yaml"]

    def count_interactions() -> int:
        ran = call(folder, *catalogue)
        assert ran.returncode == 0, ran.stdout
        (counts,) = (folder / "results/shared/catalogue").glob("mine-*/counts.parquet")
        return int(pl.read_parquet(counts)["interactions"][0])

    assert count_interactions() == 15
    (raw / "bought.csv").write_text(bought(product("uvwx", "abcde")))
    assert count_interactions() == 20
    shutil.rmtree(raw)
    assert "Nothing to be done" in call(folder, *catalogue).stdout  # what was taken is kept
    assert count_interactions() == 20


def test_weights_of_a_file_of_ones_own_are_made_again_when_it_changes(tmp_path: Path) -> None:
    folder, own = copy_repository(tmp_path / "cliper"), tmp_path / "own.pt"
    overlay = {"encoders": {"longclip-l": {"source": str(own)}}, "arms": {"cliper": {"text": "longclip-l"}}}
    overlay["arms"]["cliper"] |= {"image": "longclip-l"}
    overlay |= {"studies": None, "search": {"spaces": None}}
    run = {"datasets": ["baby"], "backbones": ["freedom"], "arms": ["cliper"], "seeds": [1]}
    (folder / "own.yaml").write_text(yaml.safe_dump(overlay | {"run": run}))
    made = folder / toy.path(toy.settings(**overlay, run=run), "weights", encoder="longclip-l")
    made.parent.mkdir(parents=True)
    made.write_text("{}")
    own.write_bytes(b"weights")
    os.utime(own, (1, 1))
    weights = [*SNAKEMAKE[:3], "all_weights", "-n", "--cores", "1", "--configfile", "config.yaml", "own.yaml"]
    assert "Nothing to be done" in call(folder, *weights).stdout
    os.utime(own)
    assert re.search(r"^weights +1$", call(folder, *weights).stdout, re.MULTILINE)
    own.unlink()
    assert "Nothing to be done" in call(folder, *weights).stdout  # what was made of it is kept


def on_terminal(folder: Path, *command: str) -> tuple[int, str]:
    """Exit code of a command in a terminal of 200 columns, and all that it shows."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "200", "TERM": "xterm"}
    running = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # the terminal's end
        while part := os.read(ours, 65_536):
            shown += part
    os.close(ours)
    return running.wait(), shown.decode()


def test_a_terminal_shows_bars_a_pipe_the_jobs_lines_and_both_the_log_of_a_failed_job(tmp_path: Path) -> None:
    folder = copy_repository(tmp_path / "cliper")
    local = [*SNAKEMAKE[:3], "all_catalogue", "--cores", "2", "--workflow-profile", "workflow/profiles/local", *DEMO]
    why = "SourceError: ratings_Shop.csv of shop could not be fetched"
    code, shown = on_terminal(folder, *local)  # the shop is not open
    assert code != 0
    assert shown.count(why) == 1
    ran = call(folder, *local)
    assert ran.returncode != 0
    assert why in ran.stdout
    code, shown = on_terminal(folder, *in_shop(*local))
    assert code == 0, shown
    assert "Total Progress" in shown
    assert "cliper catalogue: " not in shown
    (log,) = results(folder, "shared/logs/catalogue/*.log")
    account = log.read_text(encoding="utf-8").splitlines()[-1]
    next((folder / "results/shared/catalogue").glob("*/items.parquet")).unlink()
    assert account.partition("; ")[0] in call(folder, *in_shop(*local)).stdout


def test_a_typo_in_the_config_is_told_before_anything_runs(demo: Path) -> None:
    (demo / "more.yaml").write_text("run: {backbones: [latice]}\n")
    shown = call(demo, *SNAKEMAKE, *DEMO, "more.yaml")
    assert shown.returncode != 0
    assert "run.backbones: unknown backbone 'latice'; known: bpr, dualgnn" in shown.stdout


def test_stages_run_without_snakemake_from_the_configs_themselves(demo: Path) -> None:
    table = demo / "results/demo/tabulate/table2.csv"
    before = table.read_bytes()
    table.unlink()
    configs = ["--config", "config.yaml", *DEMO[1:]]
    ran = call(demo, SNAKEMAKE[0], "-m", "cliper", "tabulate", *configs, "--table", "table2")
    assert ran.returncode == 0, ran.stdout
    assert table.read_bytes() == before
