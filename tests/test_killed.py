"""A run killed with -9 and resumed equals an uninterrupted one."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from line import DEMO, SNAKEMAKE, call, copy_repository, in_shop

pytestmark = pytest.mark.slow

# What shows that a stage is at work: its log exists, its output does not.
STAGES = {
    "crawl": ("shared/logs/crawl/shop-*.log", "shared/crawl/shop-*/images.parquet"),
    "encode": (
        "shared/logs/encode/shop/bridge/as_described/global-*/0.log",
        "shared/encode/shop/bridge/as_described/global-*/0-of-1.parquet",
    ),
    "train": ("demo/logs/train/shop/freedom/cliper/1.log", "demo/train/shop/freedom/cliper/1/topk.parquet"),
}


def digests(folder: Path) -> dict[str, str]:
    """Hash of every result that holds no times."""
    kept = [p for p in (folder / "results").rglob("*") if p.is_file() and not {"logs", "benchmarks"} & {*p.parts}]
    timed = {"history.parquet", "run.json"}
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in kept
        if path.name not in timed and "_vectors" not in path.parts
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = copy_repository(tmp_path_factory.mktemp("whole") / "cliper")
    ran = call(folder, *in_shop(*SNAKEMAKE, *DEMO))
    assert ran.returncode == 0, ran.stdout
    return digests(folder)


@pytest.mark.parametrize("stage", STAGES)
def test_killed_and_resumed_equals_uninterrupted(stage: str, whole: dict[str, str], tmp_path: Path) -> None:
    folder = copy_repository(tmp_path / "cliper")
    log, output = STAGES[stage]
    running = subprocess.Popen(
        in_shop(*SNAKEMAKE, *DEMO), cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL
    )
    while not list((folder / "results").glob(log)):
        assert running.poll() is None, "the run ended before the stage began"
        time.sleep(0.05)
    time.sleep(0.5)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert not list((folder / "results").glob(output)), "the stage was over before it was killed"
    unlocked = call(folder, *SNAKEMAKE, *DEMO, "--unlock")
    assert unlocked.returncode == 0, unlocked.stdout
    ran = call(folder, *in_shop(*SNAKEMAKE, *DEMO, "--rerun-incomplete"))
    assert ran.returncode == 0, ran.stdout
    assert digests(folder) == whole
