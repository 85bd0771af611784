"""Which jobs would run, why, at what cost. tests/test_workflow.py compares the jobs with Snakemake's own plan."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest
import toy
from history import BENCHMARK, find, jobs_of, make, settings, write

from cliper.__main__ import build_parser, main
from cliper.config import Config
from cliper.errors import ConfigError
from cliper.layout import Layout
from cliper.tools.changes import records
from cliper.tools.changes.jobs import CODE, MISSING, NEWER, REMADE, SETTINGS, STOPPED, Jobs
from cliper.tools.estimates.past import alike

TITLE = {"as_described": {"title": {"prompt": "Title: ___."}}}
AFTER_TITLE = {"prompt": 2, "encode-text": 2, "fuse": 1, "neighbours-items": 1, "train": 2, "evaluate": 2}
AFTER_TITLE |= {"tabulate": 2, "plot": 3, "explore": 1, "report": 1}  # table1 counts datasets alone


@pytest.fixture
def config(workdir: Path) -> Config:
    config = settings()
    make(config)
    return config


def stages(jobs: Jobs) -> dict[str, int]:
    return dict(Counter(node.part.stage for node in jobs.stale))


def said(capsys: pytest.CaptureFixture[str], config: Config, changed: Config | None = None) -> list[str]:
    toy.run("plan", config, set=changed)
    return capsys.readouterr().out.splitlines()


def test_what_is_up_to_date_plans_nothing(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    n_jobs = len(list(Layout(config).parts()))
    assert said(capsys, config) == [f"toy: 0 of {n_jobs} jobs would run"]


def test_without_results_everything_runs(workdir: Path) -> None:
    jobs = jobs_of(settings())
    assert list(jobs.stale) == jobs.nodes
    assert {jobs.why(node)[0] for node in jobs.nodes if not node.before} == {MISSING}


def test_an_edited_template_names_the_edit_and_what_follows(config: Config) -> None:
    jobs = jobs_of(settings(prompts=TITLE))
    assert stages(jobs) == AFTER_TITLE
    edit = "prompts.as_described.title.prompt: 'The product title is ___.' → 'Title: ___.'"
    assert jobs.why(find(jobs, "prompt toy as_described title")) == (SETTINGS, [edit])
    assert jobs.why(find(jobs, "prompt toy as_described global")) == (SETTINGS, [edit])  # it joins the title
    assert jobs.why(find(jobs, "encode-text toy bridge as_described title 0")) == (REMADE, [])
    assert jobs.why(find(jobs, "train toy freedom cliper 1")) == (REMADE, [])


@pytest.mark.parametrize(
    ("overlay", "said"),
    [
        ({"backbones": {"freedom": {"k": 7}}}, ["backbones.freedom.k: 10 → 7"]),
        ({"tabulate": {"metrics": ["ndcg"]}}, ["tabulate.metrics: ['recall', 'ndcg'] → ['ndcg']"]),
        ({"train": {"patience": 3}}, ["train.patience: 10 → 3"]),
    ],
)
def test_an_edit_is_said_by_its_place_in_the_config(
    config: Config, overlay: dict[str, object], said: list[str]
) -> None:
    jobs = jobs_of(settings(**overlay))
    sentences = [sentence for node in jobs.stale for sentence in jobs.why(node)[1]]
    assert list(dict.fromkeys(sentences)) == said


def test_a_missing_result_runs_if_something_needs_it(config: Config) -> None:
    cell = {"dataset": "toy", "backbone": "freedom", "arm": "cliper", "seed": 1}
    toy.path(config, "user_metrics", **cell).unlink()  # no two arms are compared
    assert not jobs_of(config).stale
    toy.path(config, "metrics", **cell).unlink()
    assert not jobs_of(config).stale  # the tables are there
    toy.path(config, "table", table="table2", format="md").unlink()
    jobs = jobs_of(config)
    assert jobs.why(find(jobs, "evaluate toy freedom cliper 1")) == (MISSING, [])
    assert stages(jobs) == {"evaluate": 1, "tabulate": 2, "report": 1}


def test_an_input_that_is_newer_counts_if_its_content_is_another(config: Config) -> None:
    items = toy.path(config, "items", dataset="toy")
    os.utime(items)
    assert not jobs_of(config).stale
    items.write_text("other items", encoding="utf-8")
    jobs = jobs_of(config)
    assert jobs.why(find(jobs, "prompt toy as_described title")) == (NEWER, [f"{items} is newer"])


def test_a_setting_that_only_the_page_shows_makes_the_page_again(config: Config) -> None:
    jobs = jobs_of(settings(crawl={"requests_per_s": 7.5}))
    assert stages(jobs) == {"report": 1}
    assert jobs.why(find(jobs, "report")) == (
        SETTINGS,
        ["report: config.crawl.requests_per_s: 100.0 → 7.5"],
    )


def test_changed_code_and_jobs_that_were_stopped_run(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = jobs_of(config)
    node = find(jobs, "train toy freedom cliper 2")
    vars(node)["code"] = "0123456789ab"
    (before,) = {record.code for record in node.records}
    assert jobs.why(node) == (CODE, [f"code of train: {before} → 0123456789ab"])
    record = records._place("incomplete", node.writes[0])
    write(record, "", second=1)
    jobs = jobs_of(config)
    assert jobs.why(find(jobs, "train toy freedom cliper 2"))[0] == STOPPED


def test_results_without_records_are_kept(config: Config) -> None:
    for record in Path(".snakemake/metadata").iterdir():
        record.unlink()
    assert not jobs_of(settings(train={"patience": 3})).stale


def test_a_record_that_is_no_record_is_none(workdir: Path) -> None:
    for text in ("", "[]", "{}", '{"rule": "x", "input": 1, "params": [], "record_format_version": 6}'):
        write(records._place("metadata", "results/a"), text, second=1)
        assert records.read("results/a") is None
    assert len(records._place("metadata", "results/" + "a" * 400).name) < 255


def test_costs_are_those_of_jobs_alike(config: Config) -> None:
    layout = Layout(config)
    node = find(jobs_of(config), "train toy freedom cliper 1")
    write(node.benchmark, BENCHMARK.format(6.0), second=1)
    assert [past.seconds for past in alike(layout, node.part, anywhere=False)] == [6.0]
    node.benchmark.unlink()
    assert [past.seconds for past in alike(layout, node.part, anywhere=False)] == [2.0]  # of the other seed
    moved = jobs_of(settings(prompts=TITLE))
    prompt = find(moved, "prompt toy as_described title")
    (past,) = alike(layout, prompt.part, anywhere=False)  # of its folder before the edit
    assert past.memory_mb == 100.5
    assert past.size_bytes > 0


def test_costs_of_jobs_that_were_never_done_are_rough_or_unknown(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = said(capsys, settings(datasets={"toy": {**toy.dataset(Path("raw"))["datasets"]["toy"], "title": "Baby"}}))
    train = next(line for line in lines if line.startswith("train"))
    assert re.search(r"4 of 4 +\d+:\d\d:\d\d", train)
    assert re.search(r"prompt +\d of \d +\? +\? +\? +\? ", "\n".join(lines))
    assert "rough, without memory and disk" in lines[-1]
    assert "unknown: none was done before" in lines[-1]


def test_what_an_edit_would_cost_leaves_out_what_runs_anyway(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.path(config, "page").unlink()
    first, edit, *_ = said(capsys, config, settings(prompts=TITLE))
    assert re.fullmatch(r"toy: 16 of \d+ jobs would run because of it; 1 run anyway", first)
    assert edit.startswith("    prompts.as_described.title.prompt: ")
    assert not Path("config.yaml").exists()


@pytest.mark.parametrize(
    ("change", "exit_code", "text"),
    [
        (
            "prompt.as_described.title=Title: ___.",
            0,
            "prompts.as_described.title.prompt: 'The product title is ___.' → ",
        ),
        ("prompts.as_described.title.prompt='Title: ___.'", 0, "→ 'Title: ___.' (2 jobs)"),
        ("train.lerning_rate=1", 2, "train: unknown key 'lerning_rate'; known: behaviour"),
        ("train.patience=many", 2, "train.patience: 'many' is"),
        ("train.patience", 2, "'train.patience' is no change of the config; write KEY=VALUE"),
        ("train.patience=[", 2, "train.patience: '[' is no YAML"),
    ],
)
def test_an_edit_is_written_as_key_and_value(
    workdir: Path, capsys: pytest.CaptureFixture[str], change: str, exit_code: int, text: str
) -> None:
    from cliper import config as configuration

    overlay = toy.dataset(Path("raw")) | {"arms": {"cliper": {"image": "bridge", "text": "bridge"}}}
    overlay["run"] |= {"backbones": ["freedom"], "arms": ["cliper"]}
    overlay |= {"studies": None, "search": {"spaces": None}}
    configuration.write(overlay, Path("overlay.yaml"))
    paths = [toy.REPOSITORY / "config.yaml", Path("overlay.yaml")]
    make(configuration.load(paths))
    assert main(["plan", "--config", *map(str, paths), "--set", change]) == exit_code
    shown = capsys.readouterr()
    assert text in (shown.err if exit_code else shown.out)


def test_each_set_adds_edits_to_those_before_it() -> None:
    given = [["--set", "train.patience=1", "train.max_epochs=2"], ["--set", "train.batch_size=3"]]
    parsed = build_parser().parse_args(["plan", *given[0], *given[1]])
    assert parsed.set == ["train.patience=1", "train.max_epochs=2", "train.batch_size=3"]


def test_a_wrong_change_raises_the_configs_own_error() -> None:
    from cliper.config.reading import parse_change

    with pytest.raises(ConfigError, match="KEY=VALUE"):
        parse_change("=1")
    assert parse_change("arms.cliper.views=[title]") == {"arms": {"cliper": {"views": ["title"]}}}
    whole = {"fields": ["title"], "prompt": "___", "missing": "x"}
    assert parse_change("prompts.a.b={fields: [title], prompt: ___, missing: x}") == {"prompts": {"a": {"b": whole}}}
