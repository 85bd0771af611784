from __future__ import annotations

import errno
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import toy

from cliper.__main__ import main
from cliper.collect import download
from cliper.layout import Layout
from cliper.stages import STAGES

HEAVY = {"torch", "numpy", "polars", "pyarrow", "scipy", "PIL", "open_clip", "transformers", "requests"}


@pytest.mark.parametrize("stage", STAGES)
def test_help_is_the_modules_docstring_and_names_every_option(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    row = STAGES[stage]
    docstring = import_module(row.module).__doc__
    assert docstring is not None
    with pytest.raises(SystemExit) as ended:
        main([stage, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert inspect.cleandoc(docstring) in shown
    assert "In:" in shown
    assert "Out:" in shown
    for name in ("config", *row.names, *row.options, *row.flags):
        assert f"--{name.replace('_', '-')}" in shown


def test_help_of_no_stage_imports_what_computes() -> None:
    """In one process: the help of all stages, one after the other, and of the whole command."""
    code = f"""
import sys
from cliper.__main__ import main
from cliper.layout import Layout
from cliper.stages import STAGES
n_helps = 0
for command in ([], *([stage] for stage in STAGES)):
    try:
        main([*command, "--help"])
    except SystemExit as ended:
        n_helps += ended.code == 0
    assert not {HEAVY} & set(sys.modules), (command, {HEAVY} & set(sys.modules))
print(f"\\n{{n_helps}} helps")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.endswith(f"\n{len(STAGES) + 1} helps\n")


def test_a_mistake_of_the_users_is_one_line_and_exit_code_2(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalogue", "--dataset", "baby"]) == 2
    said = capsys.readouterr().err
    assert said == "ConfigError: config.yaml does not exist; name a config file with --config\n"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["crawl", "--dataset", "bany"], "unknown dataset 'bany'; known: baby, clothing, sports"),
        (["fuse", "--dataset", "baby", "--arm", "cliperr"], "unknown arm 'cliperr'; known: cliper, content_free"),
        (["weights", "--encoder", "clip"], "unknown encoder 'clip'; known: bridge"),
    ],
)
def test_an_unknown_name_is_answered_with_the_known_ones(
    workdir: Path, capsys: pytest.CaptureFixture[str], command: list[str], said: str
) -> None:
    assert main([*command, "--config", str(toy.REPOSITORY / "config.yaml")]) == 2
    assert said in capsys.readouterr().err


def test_a_full_disk_is_one_line_and_exit_code_2(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "results/x")

    monkeypatch.setattr(download, "run", full)
    command = ["download", "--dataset", "baby", "--file", "ratings_Baby.csv"]
    assert main([*command, "--config", str(toy.REPOSITORY / "config.yaml")]) == 2
    assert capsys.readouterr().err == (
        "DataError: cannot write results/x: No space left on device; free the disk, run again\n"
    )


LINE = ["download", "catalogue", "crawl", "prompt", "weights", "encode-text", "fuse", "train", "evaluate", "tabulate"]


def test_the_list_of_stages_follows_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = re.findall(r"^    ([a-z-]+)(?:  |$)", capsys.readouterr().out, re.MULTILINE)
    assert set(shown) == set(STAGES)
    assert [stage for stage in shown if stage in LINE] == LINE


def test_a_stage_comes_after_those_whose_results_it_reads() -> None:
    layout = Layout(toy.settings(run={"datasets": ["baby"], "seeds": [1]}))
    order = list(STAGES)
    pairs = {(before.stage, stage) for stage, names in layout.jobs() for before in layout._before(stage, names)}
    assert len(pairs) > 5
    assert all(order.index(before) < order.index(stage) for before, stage in pairs)
