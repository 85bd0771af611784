from __future__ import annotations

import errno
import subprocess
import sys
import time
from pathlib import Path

import pytest
import toy

from cliper.__main__ import main
from cliper.collect import download
from cliper.stages import STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_help_imports_no_torch_and_is_the_modules_docstring(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([stage, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"--{name}" in shown for name in STAGES[stage].names)
    assert "In:" in shown or "Out:" in shown


def test_help_answers_at_once_without_torch() -> None:
    began = time.monotonic()
    code = "import sys, cliper.__main__ as c\ntry: c.main(['train', '-h'])\nfinally: print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.endswith("False\n")
    assert time.monotonic() - began < 10  # about 0.3 s; the bound only catches an import of torch on a busy machine


def test_a_mistake_of_the_users_is_one_line_and_exit_code_2(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalogue", "--dataset", "baby"]) == 2
    told = capsys.readouterr().err
    assert told == "ConfigError: config.yaml does not exist; name a config file with --config\n"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["crawl", "--dataset", "bany"], "unknown dataset 'bany'; known: baby, clothing, sports"),
        (["fuse", "--dataset", "baby", "--arm", "cliperr"], "unknown arm 'cliperr'; known: cliper, content_free"),
        (["weights", "--encoder", "clip"], "unknown encoder 'clip'; known: bridge"),
    ],
)
def test_an_unknown_name_is_answered_with_the_known_ones(
    workdir: Path, capsys: pytest.CaptureFixture[str], command: list[str], told: str
) -> None:
    assert main([*command, "--config", str(toy.REPOSITORY / "config.yaml")]) == 2
    assert told in capsys.readouterr().err


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


def test_the_list_of_stages_follows_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    places = [shown.index(f"    {stage}") for stage in STAGES]
    assert places == sorted(places)
