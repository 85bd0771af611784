"""An encoder of the user's own: one file with its settings and its class."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import toy

from cliper import files
from cliper.config import Config
from cliper.errors import ConfigError

OWN = '''
"""Texts by their letters: how often each of the first letters of the alphabet occurs in them."""

from pathlib import Path

import torch
from pydantic import Field

from cliper.features.encoders.base import EncoderKind, TextTower, Weights
from cliper.features.encoders.base_settings import EncoderSettings


class MySettings(EncoderSettings):
    encodes_images = False
    width: int = Field(ge=1, le=26, description="letters that are counted")


class MyEncoder(EncoderKind[MySettings]):
    Settings = MySettings

    def prepare(self, folder: Path) -> Weights:
        """Nothing is fetched; the architecture names all that decides a vector."""
        width = self.settings.width
        return Weights(f"letters-{width}", files={}, licences={}, text_dim=width, context=8)

    def load(self, folder: Path, weights: Weights, device: torch.device, dtype: torch.dtype):
        def tokenise(texts: list[str]) -> tuple[list[list[int]], list[int]]:
            whole = [[ord(letter) - 96 for letter in text if "a" <= letter <= "z"] for text in texts]
            return [ids[:8] for ids in whole], [len(ids) for ids in whole]

        def embed(tokens: torch.Tensor) -> torch.Tensor:  # (B, L) ids from 1, padded with 0 -> (B, width)
            letters = torch.arange(1, self.settings.width + 1, device=device)
            return (tokens[:, :, None] == letters).sum(1).to(dtype)

        return TextTower(self.settings.width, 8, 0, tokenise, embed, can_cut=True), None
'''


@pytest.fixture(autouse=True)
def own_file(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """my_encoder.py in the folder in which cliper is started."""
    (workdir / "my_encoder.py").write_text(OWN)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("my_encoder", None)


def chosen(**settings: object) -> Config:
    encoders = {"mine": {"class": "my_encoder:MyEncoder", **settings}}
    return toy.settings(name="toy", encode={"store": None}, encoders=encoders)


def test_an_encoder_of_ones_own_makes_weights_and_embeddings() -> None:
    config, names = chosen(width=3), {"dataset": "baby", "prompts": "as_described", "view": "title"}
    prompts = pl.DataFrame({"item": [0, 1], "view": "title", "text": ["a cab", "zoo"], "is_missing": False})
    files.write_table(toy.path(config, "prompts", **names), "prompts", prompts)
    toy.run("weights", config, encoder="mine")
    toy.run("encode-text", config, encoder="mine", **names)
    path = toy.path(config, "text_embeddings", encoder="mine", range=0, ranges=1, **names)
    table = files.read_table(path, "text_embeddings")
    assert table["embedding"].to_numpy().dtype == np.float32
    assert table["embedding"].to_list() == [[2, 1, 1], [0, 0, 0]]
    assert table["n_tokens"].to_list() == [4, 3]


def test_its_settings_stand_in_the_config_and_in_the_note_of_its_weights() -> None:
    config = chosen(width=3)
    assert config.encoder("mine").as_mapping()["class"] == "my_encoder:MyEncoder"
    toy.run("weights", config, encoder="mine")
    noted = files.read_json(toy.path(config, "weights", encoder="mine"), made_by="weights")
    assert noted["settings"] == {"class": "my_encoder:MyEncoder", "width": 3}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"width": 0}, "encoders.mine.width: 0 must be at least 1"),
        ({}, "encoders.mine.width: missing (letters that are counted)"),
        ({"width": 3, "depth": 1}, "unknown key 'depth'; known: overflow, width"),
        (
            {"class": "my_encodr:MyEncoder"},
            "(No module named 'my_encodr'); start where my_encodr.py lies",
        ),
        ({"class": "my_encoder:Mine"}, "unknown class of my_encoder 'Mine'; known: MyEncoder, MySettings"),
        (
            {"class": "my_encoder:MySettings"},
            "is no encoder: it must subclass cliper.features.encoders.base.Enc",
        ),
        ({"class": "my_encoder"}, "'my_encoder' is no module:Class, such as my_module:MyClass"),
    ],
)
def test_what_is_no_encoder_is_refused_with_a_sentence(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        chosen(**settings)
    assert str(error.value).startswith("toy: encoders.mine")
    assert sentence in str(error.value)


def code_id() -> str:
    """The id of its weights, by a process of its own: one process reads a file once."""
    code = "from cliper.codeid import code_id; print(code_id('weights', 'my_encoder:MyEncoder'))"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_its_code_id_changes_with_what_its_file_computes(workdir: Path) -> None:
    before = code_id()
    (workdir / "my_encoder.py").write_text(OWN.replace("Nothing is fetched", "No file is fetched") + "# the end\n")
    assert code_id() == before
    (workdir / "my_encoder.py").write_text(OWN.replace("ord(letter) - 96", "ord(letter) - 95"))
    assert code_id() != before


def test_a_setting_of_ones_own_decides_what_the_store_holds(workdir: Path) -> None:
    own = OWN.replace('f"letters-{width}"', '"letters"').replace("width: int", "doubled: bool = False\n    width: int")
    own = own.replace(".to(dtype)", ".to(dtype) * (1 + self.settings.doubled)")
    (workdir / "my_encoder.py").write_text(own)
    found = []
    for doubled in (False, True):
        encoders = {"mine": {"class": "my_encoder:MyEncoder", "width": 3, "doubled": doubled}}
        config = toy.settings(name="toy", encode={"store": str(workdir / "vectors")}, encoders=encoders)
        names = {"dataset": "baby", "prompts": "as_described", "view": "title"}
        prompts = pl.DataFrame({"item": [0], "view": "title", "text": ["a cab"], "is_missing": False})
        files.write_table(toy.path(config, "prompts", **names), "prompts", prompts)
        toy.run("weights", config, encoder="mine")
        toy.run("encode-text", config, encoder="mine", **names)
        path = toy.path(config, "text_embeddings", encoder="mine", range=0, ranges=1, **names)
        found += files.read_table(path, "text_embeddings")["embedding"].to_list()
    assert found == [[2, 1, 1], [4, 2, 2]]
