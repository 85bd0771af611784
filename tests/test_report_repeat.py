"""The section "Repeat and cite" of the page."""

from __future__ import annotations

import base64
import html
import re
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import toy
import yaml
from toy_report import texts

from cliper import config as configuration
from cliper import files, resources
from cliper.config import Config, decides
from cliper.demo import shop
from cliper.layout import At, Layout
from cliper.report.pages import rendering, repeat
from cliper.settings import plain

VERSIONS = {"python": "3.11.7", "cliper": "0.1.0", "torch": "2.14.1"}
MACHINE = {"device": "cpu x86_64", "cpu": "AMD EPYC", "blas": "MKL", "kernels": "AVX2"}


def settings() -> Config:
    """With what a config may hold: an absent value, no study, and a title that tries to break out."""
    run = {"datasets": ["baby"], "backbones": ["lightgcn"], "arms": ["vanilla"], "seeds": [1, 2]}
    title = "τ \u202e</pre><script>'EOF'\nEND_OF_CONFIG\n"
    return toy.settings(name="toy", run=run, download={"lock": None}, datasets={"baby": {"title": title}})


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The section alone, as a page."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(tmp_path_factory.mktemp("run"))
        own = settings()
        for cell in own.run_cells:
            run = {**cell._asdict(), "code": "de7eb023fb6d", "versions": VERSIONS, **MACHINE}
            files.write_json(toy.path(own, "run", **cell._asdict()), run)
        found = repeat.section(decides.of_report(own), At(Layout(own), {}))
        yield rendering.render([found], title="t", headline="h")


def config_of(text: str) -> dict[str, Any]:
    return plain(configuration.structure(yaml.safe_load(text), where="page"))


def test_the_downloaded_config_is_the_runs_and_needs_no_other(page: str) -> None:
    link = re.search(r'href="data:application/yaml;base64,([^"]*)" download="config.yaml"', page)
    assert link
    assert config_of(base64.b64decode(html.unescape(link[1])).decode()) == plain(settings())


def test_the_command_writes_the_same_config(page: str, tmp_path: Path) -> None:
    code = re.search(r'<pre class="copied"[^>]*>(cat .*?)</pre>', page, re.DOTALL)
    assert code
    subprocess.run(["sh"], input=html.unescape(code[1]), text=True, check=True, cwd=tmp_path)
    assert config_of((tmp_path / "config.yaml").read_text(encoding="utf-8")) == plain(settings())


def test_nothing_of_the_config_becomes_markup(page: str) -> None:
    section = page[page.index('id="repeat-title"') : page.index("</main>")]
    assert "<script" not in section
    assert "\u202e" not in section


def test_the_commands_serve_the_demos_shop_only_where_it_is_read() -> None:
    assert f"127.0.0.1:{shop.PORT}/shop" in repeat.DEMO
    demo = yaml.safe_load(resources.read_text("demo.yaml"))
    assert demo["datasets"]["shop"]["source"]["mirrors"] == [repeat.DEMO]
    assert any("cliper.demo.shop -- \\" in line for line in repeat.commands("demo", "1", served=True))
    assert not any("cliper.demo.shop" in line for line in repeat.commands("demo", "1", served=False))


def test_the_commands_name_files_that_exist() -> None:
    named = re.findall(r'"\$CLONE"/([\w/]+)', "\n".join(repeat.commands("demo", "1", served=False)))
    assert set(named) >= {"Snakefile", "workflow/profiles/local"}
    assert all((toy.REPOSITORY / name).exists() for name in named if not name.startswith(".venv"))


def test_each_set_of_versions_is_shown_once_the_most_frequent_first() -> None:
    other = {"versions": {**VERSIONS, "torch": "2.6.0"}, **MACHINE}
    found = repeat.made_with([other, {"versions": VERSIONS, **MACHINE}, {"versions": VERSIONS, **MACHINE}])
    assert [(n, dict(facts)["PyTorch"]) for n, facts in found] == [(2, "2.14.1"), (1, "2.6.0")]
    assert dict(found[0][1])["CPU"] == "AMD EPYC"


def test_a_backbone_trained_by_two_codes_has_two_rows() -> None:
    runs = [{"backbone": "freedom", "code": code} for code in ("a", "b", "a")]
    assert texts(repeat.codes_table(runs, {"freedom": "FREEDOM"}).rows) == [
        ["FREEDOM", "a", "2"],
        ["FREEDOM", "b", "1"],
    ]


def test_lock_files_are_found_here_first_and_that_of_raw_files_only_here(tmp_path: Path) -> None:
    here, code = tmp_path / "here", tmp_path / "code"
    for path, text in ((here / "constraints.txt", "1"), (code / "constraints.txt", "2"), (code / "embedded.txt", "3")):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (code / "sources.lock.json").write_text("4")
    hashes = [("constraints.txt", sha256(b"1").hexdigest()), ("embedded.txt", sha256(b"3").hexdigest())]
    assert repeat.lock_files("sources.lock.json", here, code) == hashes
    (here / "sources.lock.json").write_text("5")
    assert repeat.lock_files("sources.lock.json", here, code) == [
        *hashes,
        ("sources.lock.json", sha256(b"5").hexdigest()),
    ]
    assert repeat.lock_files(None, tmp_path, tmp_path) == []


def test_the_config_of_the_page_is_one_text_in_whatever_order_its_files_were_laid() -> None:
    config = toy.settings()
    turned = config.model_copy(update={"datasets": dict(reversed(config.datasets.items()))})
    assert list(turned.datasets) != list(config.datasets)
    assert decides.of_report(turned).config == decides.of_report(config).config


def test_licences_name_every_part_and_say_where_none_is_recorded() -> None:
    weights = {
        "bridge": {"architecture": "a + b", "licences": {"a": "MIT", "b": "Apache-2.0"}, "origin": {"a": "a==1"}},
        "long": {"architecture": "ViT-L-14", "licences": {"Long": "MIT"}, "origin": {"source": "a URL", "sha256": "0"}},
        "own": {"architecture": "ours", "licences": {}, "origin": {}},
    }
    assert texts(repeat.licences_table(weights).rows) == [
        ["bridge", "a", "MIT", "a==1"],
        ["bridge", "b", "Apache-2.0", ""],
        ["long", "Long", "MIT", "a URL"],
        ["own", "ours", "not recorded", ""],
    ]
    assert repeat.licences_table({"own": weights["own"]}).heading == ["Encoder", "Weights", "Licence"]


def test_citations_agree_with_citation_cff() -> None:
    cited = yaml.safe_load((toy.REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    own = repeat.software_bibtex(metadata.metadata("cliper").json)
    assert f"title = {{{cited['title']}}}" in own
    assert f"version = {{{cited['version']}}}" in own
    assert cited["authors"][0]["name"] in own
    assert cited["license"] in own
    assert f"{{{cited['references'][0]['title']}}}" in resources.read_text("paper/paper.bib")
