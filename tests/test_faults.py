"""Each line of the fault table, as `python -m benchmarks.faults` prints it."""

from __future__ import annotations

import shutil
import sys

import pytest
import toy

from cliper.collect.images import fetch

sys.path.append(str(toy.REPOSITORY))  # benchmarks are not installed

from benchmarks.faults import FAULTS, Fault, Seen, see


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_has_its_status_and_harms_nobody_else(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    if "TLS" in fault.name and shutil.which("openssl") is None:
        pytest.skip("no openssl")
    monkeypatch.setattr(fetch, "FIRST_PAUSE_S", 0.15)
    seen, seconds = see(fault)
    assert seen == Seen(fault.expected)
    assert seconds < fault.limit_s
