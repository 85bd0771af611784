"""Facts that are written in two places agree."""

from __future__ import annotations

import ast
import re
import tomllib

import pytest
import toy
import yaml


def pins(text: str) -> dict[str, str]:
    """Versions by package.

    >>> pins("torch==2.4.0\\ntypes-PyYAML==6.0")
    {'torch': '2.4.0', 'types_pyyaml': '6.0'}
    """
    found = re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE)
    return {name.lower().replace("-", "_"): version for name, version in found}


def read(path: str) -> str:
    return (toy.REPOSITORY / path).read_text(encoding="utf-8")


PROJECT = tomllib.loads(read("pyproject.toml"))


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_environments_hold_the_versions_that_are_tested(name: str) -> None:
    listed = yaml.safe_load(read(f"envs/{name}.yaml"))["dependencies"][-1]["pip"]
    tested = pins(read("constraints.txt")) | pins(read("embedded.txt"))
    wanted = pins("\n".join(listed))
    assert len(wanted) == len([line for line in listed if not line.startswith("--")]) > 0  # all are pinned
    assert wanted == {package: tested[package] for package in wanted}


def test_environments_hold_every_package_the_project_needs() -> None:
    needed = {re.split(r"[^\w-]", line)[0].lower().replace("-", "_") for line in PROJECT["project"]["dependencies"]}
    assert {"torch", "polars", "pydantic"} <= needed
    assert needed <= set(pins("\n".join(yaml.safe_load(read("envs/cpu.yaml"))["dependencies"][-1]["pip"])))


def recipe(target: str) -> list[str]:
    """Commands of a target of the Makefile."""
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", read("Makefile"), re.MULTILINE)
    assert found, target
    return [line.removeprefix("\t") for line in found[1].splitlines()]


def code_of(text: str) -> str:
    """All code of a page: fenced blocks, and words in back quotes.

    >>> code_of("Say `make a`, do not make b.")
    'make a'
    """
    fenced = re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return "\n".join(fenced + inline)


@pytest.mark.parametrize(
    ("page", "some"), [("README.md", {"demo", "test"}), ("CONTRIBUTING.md", {"check", "test-slow", "venv"})]
)
def test_pages_name_targets_that_exist(page: str, some: set[str]) -> None:
    targets = set(re.findall(r"^([\w-]+):", read("Makefile"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z][\w-]*)", code_of(read(page))))
    assert some <= named <= targets


def test_the_makefile_lists_its_targets() -> None:
    targets = re.findall(r"^([\w-]+):", read("Makefile"), re.MULTILINE)
    assert read("Makefile").splitlines()[0] == f"# make {' | '.join(dict.fromkeys(targets))}"
    phony = re.search(r"^\.PHONY: (.*)", read("Makefile"), re.MULTILINE)
    assert phony
    assert phony[1].split() == list(dict.fromkeys(targets))


def test_ci_runs_what_must_pass_before_a_commit_and_the_tests_last() -> None:
    checks = (
        "ruff check .",
        "ruff format --check .",
        "mypy",
        "snakefmt --check Snakefile workflow",
        "snakemake --lint",
    )
    assert recipe("check") == [*(f"$(BIN)/{check}" for check in checks), "$(MAKE) test"]
    assert read(".ci/run").splitlines()[-1] == "make check"
    assert "MAKEFLAGS += --no-print-directory\n" in read("Makefile")  # else make has the last word


def test_every_marker_is_used() -> None:
    declared = {line.partition(":")[0] for line in PROJECT["tool"]["pytest"]["ini_options"]["markers"]}
    sources = [path.read_text(encoding="utf-8") for path in (toy.REPOSITORY / "tests").glob("*.py")]
    used = set(re.findall(r"pytest\.mark\.(\w+)", "\n".join(sources)))
    assert declared == used - {"parametrize", "skipif", "filterwarnings", "usefixtures", "xfail", "timeout", "skip"}


def test_no_test_file_imports_another() -> None:
    files = sorted((toy.REPOSITORY / "tests").glob("*.py"))
    assert len(files) > 40
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.rpartition(".")[2].startswith("test_")], path.name


def test_every_test_checks_something() -> None:
    """Each test function asserts, expects an exception, or calls a function of its file that does."""
    n_tests = 0
    for path in sorted((toy.REPOSITORY / "tests").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        checking, is_growing = set(CHECKS), True
        while is_growing:
            more = {function.name for function in functions if named_in(function) & checking} - checking
            checking, is_growing = checking | more, bool(more)
        tests = {function.name for function in functions if function.name.startswith("test_")}
        n_tests += len(tests)
        assert tests <= checking, path.name
    assert n_tests > 400


CHECKS = {"assert", "raises", "assert_close", "assert_array_equal", "assert_allclose"}


def named_in(function: ast.FunctionDef) -> set[str]:
    """Names that a function uses, and `assert` if it asserts what is no constant."""
    found = set[str]()
    for node in ast.walk(function):
        match node:
            case ast.Assert(test=ast.Constant() | ast.Tuple()):
                raise AssertionError(f"{function.name} asserts a constant")
            case ast.Assert():
                found.add("assert")
            case ast.Name(id=name) | ast.Attribute(attr=name):
                found.add(name)
    return found
