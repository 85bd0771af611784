from __future__ import annotations

import errno
import inspect
import os
import re
import subprocess
import sys
from copy import deepcopy
from importlib import import_module
from pathlib import Path

import pytest
import toy

from cliper import config
from cliper.__main__ import main
from cliper.collect import download
from cliper.layout import Layout
from cliper.stages import STAGES, spelled

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
    for name in (*(["config"] if row.file is None else []), *row.names, *row.options):
        assert spelled(name) in shown


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
    shipped = toy.REPOSITORY / "cliper/data/line/config.yaml"
    assert said == f"ConfigError: config.yaml does not exist; name one with --config, such as {shipped}\n"
    assert shipped.read_bytes() == (toy.REPOSITORY / "config.yaml").read_bytes()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["crawl", "--dataset", "bany"], "unknown dataset 'bany'; known: baby, clothing, sports"),
        (
            ["fuse", "--dataset", "baby", "--arm", "cliperr"],
            "unknown arm 'cliperr'; known: as_released, cliper, ",
        ),
        (["weights", "--encoder", "clip"], "unknown encoder 'clip'; known: bridge"),
    ],
)
def test_an_unknown_name_is_answered_with_the_known_ones(
    workdir: Path, capsys: pytest.CaptureFixture[str], command: list[str], said: str
) -> None:
    assert main([*command, "--config", str(toy.REPOSITORY / "config.yaml")]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("files", [("results/x",), ("a source", None, "results/x")])
def test_a_full_disk_is_one_line_and_exit_code_2(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], files: tuple[str | None, ...]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", *files)

    monkeypatch.setattr(download, "run", full)
    command = ["download", "--dataset", "baby", "--file", "ratings_Baby.csv"]
    assert main([*command, "--config", str(toy.REPOSITORY / "config.yaml")]) == 2
    assert capsys.readouterr().err == (
        "DataError: cannot write results/x: No space left on device; free the disk, run again\n"
    )


@pytest.mark.parametrize(
    ("stage", "names", "first"),
    [
        ("catalogue", {"dataset": "toy"}, "download"),
        ("crawl", {"dataset": "toy"}, "catalogue"),
        ("encode-image", {"dataset": "toy", "encoder": "bridge"}, "weights"),
        ("evaluate", {"dataset": "toy", "backbone": "freedom", "arm": "cliper", "seed": "1"}, "train"),
        ("tabulate", {"table": "table2"}, "evaluate"),
    ],
)
def test_a_command_in_a_hint_reads_the_users_own_config(
    workdir: Path, capsys: pytest.CaptureFixture[str], stage: str, names: dict[str, str], first: str
) -> None:
    overlay = toy.dataset(Path("raw")) | {"arms": {"cliper": {"image": "bridge", "text": "bridge"}}}
    config.write(overlay, Path("my shop.yaml"))
    shipped = Path("config.yaml")
    shipped.write_bytes((toy.REPOSITORY / "config.yaml").read_bytes())
    asked = [word for name, value in names.items() for word in (f"--{name}", value)]
    assert main([stage, *asked, "--config", "config.yaml", "my shop.yaml"]) == 2
    assert f" python -m cliper {first} --config config.yaml 'my shop.yaml'" in capsys.readouterr().err
    config.write(config.lay_over(deepcopy(toy.shipped()), overlay), shipped)
    assert main([stage, *asked]) == 2
    said = capsys.readouterr().err
    assert f" python -m cliper {first}" in said
    assert "--config" not in said


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


def where(capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    assert main(["where", "--config", str(toy.REPOSITORY / "config.yaml"), "overlay.yaml", *options]) == 0
    return [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]


def test_where_lists_the_folders_of_an_arm_that_shares_them(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arms = {"narrow": toy.shipped()["arms"]["cliper"] | {"d": 32}}
    run = {"datasets": ["baby"], "arms": ["cliper", "narrow"], "backbones": ["freedom"], "seeds": [1]}
    config.write({"run": run, "arms": arms}, Path("overlay.yaml"))
    for arm in ("cliper", "narrow"):
        shown = where(capsys, "--arm", arm)
        assert f"fuse              baby {arm}" in shown
        assert f"neighbours-items  baby {arm}" in shown


def test_where_knows_the_runs_datasets_and_arms(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write({"run": {"datasets": ["baby"], "arms": ["cliper"]}, "studies": None}, Path("overlay.yaml"))
    assert "train             baby lightgcn content_free 1" in where(capsys, "--arm", "content_free")
    command = ["where", "--config", str(toy.REPOSITORY / "config.yaml"), "overlay.yaml"]
    assert main([*command, "--dataset", "sports"]) == 2
    assert "unknown dataset of the run 'sports'; known: baby" in capsys.readouterr().err
    assert main([*command, "--arm", "vanilla"]) == 2
    assert "unknown arm of the run 'vanilla'; known: cliper, content_free" in capsys.readouterr().err


def test_a_place_and_the_names_of_another_job_are_refused(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = str(toy.REPOSITORY / "config.yaml")
    place = Layout(toy.settings()).place("catalogue", dataset="baby")
    assert main(["catalogue", "--config", shipped, "--place", place, "--dataset", "sports"]) == 2
    assert capsys.readouterr().err == f"ConfigError: {place} is the job --dataset baby\n"


def test_a_place_says_no_files_name(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = str(toy.REPOSITORY / "config.yaml")
    place = Layout(toy.settings()).place("download", dataset="baby")
    assert main(["download", "--config", shipped, "--place", place]) == 2
    assert capsys.readouterr().err == "ConfigError: download needs --file\n"


def test_a_reader_that_has_seen_enough_ends_a_command_without_a_word(tmp_path: Path) -> None:
    command = f"{sys.executable} -m cliper where --config {toy.REPOSITORY / 'config.yaml'}"
    environment = {**os.environ, "PYTHONPATH": str(toy.REPOSITORY)}
    ran = subprocess.run(
        ["bash", "-c", f"{command} | head -1; exit ${{PIPESTATUS[0]}}"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (141, "")
    assert ran.stdout.startswith("download")
