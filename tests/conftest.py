"""Shared fixtures."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest

gc.disable()  # until all is imported: a quarter of the time of collecting the tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the file that takes longest, so that no process is left alone with it at the end."""
    items.sort(key=lambda item: item.path.name != "test_workflow.py")


def pytest_collection_finish() -> None:
    """Take what was imported out of the collector's rounds; with all modules loaded, one takes half a second."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one: results/ goes there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def packaged_models_read_once() -> Iterator[None]:
    """Loading an encoder copies a packaged model that was read before: its network is drawn and filled once a file."""
    from cliper.features.encoders import cnn, sentence

    with pytest.MonkeyPatch.context() as patched:
        for module, name in ((sentence, "load_minilm"), (cnn, "load_lite0")):
            read_once = cache(getattr(module, name))
            patched.setattr(module, name, lambda read_once=read_once: deepcopy(read_once()))
        yield
