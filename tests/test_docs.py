"""The docs say what is so: commands run, configs fit, links resolve, reference pages are the code's.

A page is run as it is read, in a copy of the repository. What stands above a code block says what to do with it:

    (nothing)                a block of sh is run, and must succeed
    <!-- slow: why -->       it is run by `make test-slow`
    <!-- not run: why -->    it is not run, for this reason; its commands must exist all the same
    <!-- file: NAME -->      the block is a file that the page's commands read
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import toy
import yaml
from line import PORT

from cliper.__main__ import build_parser
from cliper.collect.sources import SOURCES
from cliper.config import Config
from cliper.demo import shop
from cliper.features.encoders.base_settings import EncoderSettings
from cliper.features.fusion.rows import FUSIONS
from cliper.features.prompts.cleaning import STEPS
from cliper.models.backbones.base import Given, Interactions, ItemFeatures, Triples
from cliper.schemas import IMAGE_STATUSES
from cliper.stages import STAGES
from cliper.variants import load_class

REPOSITORY = toy.REPOSITORY
DOCS = REPOSITORY / "docs"
README = REPOSITORY / "README.md"
GENERATED = ["stages", "targets", "config", "tables"]
REFERENCE = [DOCS / f"reference/{name}.md" for name in GENERATED]
PAGES = [
    README,
    REPOSITORY / "CONTRIBUTING.md",
    *(page for page in sorted(DOCS.rglob("*.md")) if page not in REFERENCE),
]
WRITTEN = [*PAGES, REPOSITORY / "CHANGELOG.md", REPOSITORY / "DECISIONS.md"]
NOT_COPIED = (".venv", ".git", "results", ".snakemake", "tests", "__pycache__", ".*_cache", "*.egg-info")
BLOCK = re.compile(r"^(?:<!-- ([\w ]+): ([^\n]+) -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"sh", "yaml", "python", "json", "text"}


class Block(NamedTuple):
    """A code block, and what stands above it."""

    rule: str
    about: str
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        lines = self.text.replace("\\\n", " ").splitlines() if self.language == "sh" else []
        return [line for line in lines if line.strip()]


def blocks(page: Path) -> list[Block]:
    return [Block(*found.groups(default="")) for found in BLOCK.finditer(page.read_text(encoding="utf-8"))]


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def pages_with(keep: Callable[[Block], bool]) -> list[Path]:
    return [page for page in PAGES if any(keep(block) for block in blocks(page))]


each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


# What runs


@each_page
def test_a_block_is_run_or_says_why_not(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(blocks(page)) * 2 == len(re.findall(r"^```", text, re.MULTILINE)), "a block that is not seen"
    for block in blocks(page):
        assert block.language in LANGUAGES, f"name the language of: {block.text:.40}"
        assert block.rule in ({"", "slow", "not run"} if block.language == "sh" else {"", "file"}), block


def run_page(page: Path, folder: Path, rules: set[str]) -> None:
    """Run a page's blocks of some rules, in their order, in a copy of the repository."""
    copy = Path(shutil.copytree(REPOSITORY, folder / "copy", ignore=shutil.ignore_patterns(*NOT_COPIED)))
    for name in ("cliper/demo/shop.py", "cliper/data/demo.yaml"):  # a `make demo` may have the port meanwhile
        text = (copy / name).read_text(encoding="utf-8")
        (copy / name).write_text(text.replace(str(shop.PORT), str(PORT)), encoding="utf-8")
    write_files(page, copy)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(copy)}
    environment.pop("SNAKEMAKE_PROFILE", None)
    for block in blocks(page):
        if block.language == "sh" and block.rule in rules:
            done = subprocess.run(
                ["bash", "-ec", block.text],
                cwd=copy,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{block.text}\n{done.stdout}"


def write_files(page: Path, folder: Path) -> None:
    for block in blocks(page):
        if block.rule == "file":
            path = folder / block.about
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")


@pytest.mark.parametrize("page", pages_with(lambda b: b.language == "sh" and not b.rule), ids=name_of)
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path) -> None:
    run_page(page, tmp_path, {""})


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with(lambda b: b.rule == "slow"), ids=name_of)
def test_a_page_runs_from_end_to_end(page: Path, tmp_path: Path) -> None:
    run_page(page, tmp_path, {"", "slow"})


# What exists


def targets() -> set[str]:
    return set(re.findall(r"^rule (all_\w+):", (REPOSITORY / "Snakefile").read_text(encoding="utf-8"), re.MULTILINE))


def make_targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def check_cliper(words: list[str]) -> None:
    build_parser().parse_args(words)  # ends the test with SystemExit where it does not understand


def check_snakemake(words: list[str]) -> None:
    assert {word for word in words if word.startswith("all_")} <= targets()
    assert all(
        Path(REPOSITORY / word).exists() for word in words if word.startswith(("cliper/", "workflow/", "tests/"))
    )


def check_module(words: list[str]) -> None:
    source = REPOSITORY.joinpath(*words[0].split(".")).with_suffix(".py").read_text(encoding="utf-8")
    own = words[1 : words.index("--")] if "--" in words else words[1:]
    assert all(f'"{word}"' in source for word in own if word.startswith("--"))
    if "--" in words:
        check(words[words.index("--") + 1 :])


def check_make(words: list[str]) -> None:
    assert set(words) <= make_targets()


def check(words: list[str]) -> None:
    """What a command names exists. A command without a rule here is none that the docs may show."""
    match words:
        case ["python", "-m", "cliper", "--help" | "--version"]:
            pass
        case ["python", "-m", "cliper", *more] if "--help" not in more:
            check_cliper(more)
        case ["python", "-m", "cliper", stage, "--help"]:
            assert stage in build_parser().format_help()
        case ["python", "-m", module, *more]:
            check_module([module, *more])
        case ["python", file]:
            assert file.endswith(".py")
        case ["snakemake", *more]:
            check_snakemake(more)
        case ["make", *more]:
            check_make(more)
        case ["source" | "head" | "cat" | "pip" | "pipx" | "git" | "pytest" | "cd", *_]:
            pass
        case _:
            pytest.fail(f"no rule for the command {shlex.join(words)}")


@each_page
def test_a_command_names_what_exists(page: Path) -> None:
    for block in blocks(page):
        for command in block.commands:
            for part in command.split(" && "):
                check(shlex.split(part, comments=True))


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_a_command_within_a_line_names_what_exists(page: Path) -> None:
    for command in re.findall(r"`((?:make|python -m|snakemake) [^`\n]+)`", page.read_text(encoding="utf-8")):
        check(shlex.split(command))


@pytest.mark.parametrize("page", [*WRITTEN, *REFERENCE], ids=name_of)
def test_links_resolve(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if not target.startswith("http"):
            path, _, anchor = target.partition("#")
            found = page.parent / path if path else page
            assert found.exists(), target
            assert not anchor or anchor in anchors(found), target


def anchors(page: Path) -> set[str]:
    """Where GitHub puts a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_map_of_the_docs() -> None:
    linked = re.findall(r"\]\(([^)#]+\.md)", (DOCS / "index.md").read_text(encoding="utf-8"))
    assert {(DOCS / link).resolve() for link in linked} >= set(DOCS.rglob("*.md")) - {DOCS / "index.md"}


# What fits


@pytest.fixture
def own_modules(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, whose modules are forgotten afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(workdir)])
    yield workdir
    for path in workdir.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.parametrize("page", pages_with(lambda b: b.language == "yaml"), ids=name_of)
def test_a_config_can_be_laid_over_the_shipped_one(page: Path, own_modules: Path) -> None:
    write_files(page, own_modules)
    for block in blocks(page):
        if block.language == "yaml":
            overlay = yaml.safe_load(block.text)
            config = toy.settings(**overlay)
            if {"run", "datasets"} <= overlay.keys():
                assert {cell.dataset for cell in config.cells} == set(overlay["datasets"])


def test_the_readme_is_a_front_page() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 130
    assert sum(len(line.split()) for line in lines if "Demo shop" not in line) <= 900


def test_the_picture_has_every_stage() -> None:
    shown = re.findall(r">(\w+)(?:-\w+)?</text>", (DOCS / "line.svg").read_text(encoding="utf-8"))
    assert {stage.module.rpartition(".")[2] for stage in STAGES.values() if stage.folder} <= set(shown)


def test_the_readme_is_what_the_package_shows() -> None:
    assert 'readme = "README.md"' in (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", GENERATED)
def test_a_reference_page_is_the_codes(name: str, generated: Path) -> None:
    committed, made = (folder / f"{name}.md" for folder in (DOCS / "reference", generated))
    is_same = committed.read_text(encoding="utf-8") == made.read_text(encoding="utf-8")
    assert is_same, f"docs/reference/{name}.md is not what the code says; run: make docs"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference pages, made now, without torch."""
    folder = tmp_path_factory.mktemp("reference")
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['generate.py', {str(folder)!r}]\n"
        f"runpy.run_path({str(DOCS / 'generate.py')!r}, run_name='__main__')\n"
        "assert 'torch' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    return folder


def test_every_key_says_what_it_means(generated: Path) -> None:
    lines = (generated / "config.md").read_text(encoding="utf-8").splitlines()
    rows = [re.split(r"(?<!\\)\|", line) for line in lines if line.startswith("| `")]
    assert len(rows) > 80
    assert not [row[1] for row in rows if not row[3].strip()]


def policies() -> Iterator[str]:
    found = EncoderSettings.model_json_schema()["properties"]["overflow"]["anyOf"]
    yield from (name for kind in found for name in kind.get("enum", []))


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("explanation/fusion.md", FUSIONS),
        ("explanation/encoders.md", toy.shipped()["encoders"]),
        ("explanation/encoders.md", policies()),
        ("explanation/fairness.md", ["random", "user_time", "global_time", "given"]),
        ("howto/new-source.md", SOURCES.rows),
        ("howto/prompts.md", STEPS),
        ("howto/faults.md", IMAGE_STATUSES),
    ],
)
def test_a_list_in_the_docs_is_whole(page: str, names: list[str]) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert not [name for name in names if f"`{name}`" not in text]


# One word a thing

DIALECT = {  # pattern: what to say instead
    "anew": "again",
    "beside": "with, next to",
    "broken off": "interrupted",
    "for want of": "without, missing",
    "in hand": "in memory, at a time",
    "in passing": "transient",
    "mend(s|ed|ing)?": "repair, correct",
    "so many": "a number",
    "told": "said, logged, warned of",
}


@pytest.mark.parametrize("page", [*WRITTEN, *REFERENCE, REPOSITORY / "config.yaml"], ids=name_of)
def test_prose_has_no_private_dialect(page: Path) -> None:
    text = " ".join(page.read_text(encoding="utf-8").split())
    found = {pattern: say for pattern, say in DIALECT.items() if re.search(rf"\b{pattern}\b", text)}
    assert not found, f"say instead: {found}"


# The one whole example of a backbone


def test_the_example_of_a_backbone_learns(own_modules: Path) -> None:
    write_files(DOCS / "howto/new-backbone.md", own_modules)
    backbone = load_class("my_backbone:MyBackbone")
    draw = np.random.default_rng(1)
    users, items = np.repeat(np.arange(6), 3), np.tile(np.arange(6), 3)
    image, text = (draw.standard_normal((8, width)).astype(np.float32) for width in (5, 4))
    nothing = np.zeros(8, dtype=bool)
    given = Given(
        Interactions(users, items, n_users=6, n_items=8),
        d=4,
        generator=torch.Generator().manual_seed(1),
        behaviour="as_published",
        features=ItemFeatures(image, text, nothing, nothing),
    )
    model = backbone(given, backbone.Settings(n_layers=2))
    batch = Triples(torch.from_numpy(users), torch.from_numpy(items), torch.full((18,), 7))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        losses.append(model.loss(batch))
        losses[-1].backward()
        optimiser.step()
    assert 0 < losses[-1] < losses[0] / 2
    assert [tuple(part.shape) for part in model.embed()] == [(6, 4), (8, 4)]


def test_the_json_schema_is_that_of_the_models() -> None:
    committed = (DOCS / "config.schema.json").read_text(encoding="utf-8")
    printed = json.dumps(Config.model_json_schema(), indent=1, ensure_ascii=False) + "\n"
    assert committed == printed, "run: python -m cliper schema > docs/config.schema.json"
