"""The portable kernels give the same bits on every x86-64 with AVX2: hashes seen on Intel and on AMD."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import toy

from cliper import config, kernels
from cliper.device import compute_with, describe_cpu
from cliper.errors import ConfigError

CPUINFO = Path("/proc/cpuinfo")
HAS_AVX2 = CPUINFO.exists() and " avx2 " in CPUINFO.read_text()
# Of tests/portable_cells.py with the versions of constraints.txt.
HASHES = {
    "mmgcn": "39721b432e64",
    "dualgnn": "4e3931aee81b",
    "lattice": "d35478f249b7",
    "slmrec": "39fb7d53933b",
    "freedom": "177b0fe7e272",
    "vbpr": "5e841e26b5cf",
    "lightgcn": "79055bcbc671",
    "bpr": "e692fb9fb0eb",
    "fused": "f690de71768c",
    "lite0": "a2c7fb7dcc55",
    "attention": "fe45d7b844f1",
}


def python(*command, **variables):
    environment = {name: value for name, value in os.environ.items() if name not in kernels.PORTABLE} | variables
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (toy.REPOSITORY, toy.REPOSITORY / "tests")))
    shown = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


@pytest.mark.skipif(not HAS_AVX2, reason="portable kernels need a CPU with AVX2")
def test_a_small_cell_of_each_backbone_has_the_bits_seen_on_other_machines():
    made = json.loads(python("tests/portable_cells.py"))
    assert made["kernels"] == "AVX2, MKL_CBWR=COMPATIBLE"
    assert made["hashes"] == HASHES, made["cpu"]


def test_a_command_pins_the_kernels_that_its_config_asks_for(tmp_path):
    seen = "import os; from cliper.kernels import *; pin('{}'); print(are_pinned(), os.environ.get('MKL_CBWR'))"
    assert python("-c", seen.format("portable")).split() == ["True", "COMPATIBLE"]
    assert python("-c", seen.format("fastest")).split() == ["False", "None"]


def test_a_command_that_has_loaded_numpy_starts_again(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, numpy\nfrom cliper.kernels import pin\nprint(sys.argv)\npin('portable')\nprint('on')\n"
    )
    shown = python(str(script), "--a").splitlines()
    assert shown == [f"[{str(script)!r}, '--a']"] * 2 + ["on"]


def test_portable_kernels_that_are_not_in_force_are_an_error(monkeypatch):
    monkeypatch.delenv("MKL_CBWR", raising=False)
    with pytest.raises(ConfigError, match="loaded before they were pinned"):
        compute_with(threads=1, kernels_are="portable")
    for name, value in kernels.PORTABLE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "DEFAULT")
    with pytest.raises(ConfigError, match="needs a CPU with AVX2"):
        compute_with(threads=1, kernels_are="portable")


def test_the_record_names_cpu_library_and_kernels():
    described = describe_cpu()
    assert list(described) == ["cpu", "blas", "kernels"]
    assert described["cpu"]
    assert described["blas"] != "unknown"


def test_a_precision_chosen_by_speed_is_not_portable():
    with pytest.raises(ConfigError, match=r"encode.precision: auto .* kernels are portable"):
        toy.settings(kernels="portable", encode={"precision": "auto"})


def test_the_demo_is_portable():
    assert config.load([toy.REPOSITORY / "config.yaml", toy.REPOSITORY / "cliper/data/demo.yaml"]).kernels == "portable"
