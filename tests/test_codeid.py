"""Code ids: what an edit of the source re-runs, and what it leaves alone."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Collection
from pathlib import Path
from textwrap import dedent

import pytest
import toy

from cliper import stages
from cliper.codeid import Sources, code_id
from cliper.collect.sources import SOURCES
from cliper.errors import ConfigError
from cliper.features.encoders import ENCODERS
from cliper.models.backbones import BACKBONES

Key = tuple[str, ...]

PLACES = {
    name: row.place
    for variants in (SOURCES, ENCODERS, BACKBONES)
    for name, row in variants.rows.items()  # no name is in two of them
}
VARIANTS = {
    "catalogue": SOURCES,
    "weights": ENCODERS,
    "encode-text": ENCODERS,
    "encode-image": ENCODERS,
    "encode-default-image": ENCODERS,
    "train": BACKBONES,
}


def of(stage: str, *names: str) -> set[Key]:
    """Cells of a stage with variants of ours; without names, with all that it may have."""
    return {(stage, PLACES[name]) for name in names or VARIANTS[stage].rows}


CELLS: list[Key] = [
    cell for stage in stages.STAGES for cell in (sorted(of(stage)) if stage in VARIANTS else [(stage,)])
]
LOAD = "cliper.features.encoders.loading:load"
STORED = [(*cell, LOAD) for cell in sorted(of("weights"))]  # what a stored vector depends on


def ids(folder: Path, cells: Collection[Key]) -> dict[Key, str]:
    sources = Sources(folder)
    return {cell: sources.code_id(*cell) for cell in cells}


BEFORE = ids(toy.REPOSITORY, [*CELLS, *STORED])


def changed(folder: Path) -> set[Key]:
    """What has another id in a copy than in the original."""
    return {cell for cell, found in ids(folder, BEFORE).items() if found != BEFORE[cell]}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with a copy of the package's sources."""
    shutil.copytree(
        toy.REPOSITORY / "cliper", tmp_path / "cliper", ignore=shutil.ignore_patterns("data", "__pycache__")
    )
    return tmp_path


def edit(folder: Path, file: str, old: str, new: str) -> None:
    """Replace a text that a file has, everywhere in it."""
    path = folder / "cliper" / file
    source = path.read_text(encoding="utf-8")
    assert old in source, f"{file} has no {old!r}"
    path.write_text(source.replace(old, new), encoding="utf-8")


def move(folder: Path, old: str, new: str) -> None:
    """Move a module and rewrite the imports of it."""
    (folder / "cliper" / new).parent.mkdir(exist_ok=True)
    (folder / "cliper" / old).rename(folder / "cliper" / new)
    (package, name), (new_package, new_name) = (
        f"cliper.{file.removesuffix('.py').replace('/', '.')}".rsplit(".", 1) for file in (old, new)
    )
    for path in folder.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        source = re.sub(rf"{re.escape(package)}\.{name}\b", f"{new_package}.{new_name}", source)
        source = source.replace(f"from {package} import {name}\n", f"from {new_package} import {new_name} as {name}\n")
        if package == new_package:
            source = re.sub(rf"(from {package} import .*)\b{name}\b", rf"\1{new_name} as {name}", source)
        path.write_text(source, encoding="utf-8")


def append(folder: Path, file: str, text: str) -> None:
    with (folder / "cliper" / file).open("a", encoding="utf-8") as opened:
        opened.write(text)


def cut(folder: Path, file: str, start: str, end: str) -> str:
    """Take the text from one mark up to another out of a file."""
    source = (folder / "cliper" / file).read_text(encoding="utf-8")
    taken = source[source.index(start) : source.index(end)]
    edit(folder, file, taken, "")
    return taken


def test_every_stage_and_variant_has_an_id_of_its_own_that_stays() -> None:
    assert len(PLACES) == sum(len(variants.rows) for variants in (SOURCES, ENCODERS, BACKBONES))
    assert len({BEFORE[cell] for cell in CELLS}) == len(CELLS) > len(stages.STAGES)
    assert all(len(found) == 12 and int(found, 16) >= 0 for found in BEFORE.values())
    assert {cell: code_id(*cell) for cell in BEFORE} == BEFORE


def test_renamed_and_moved_files_keep_all_ids(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    move(copy, "models/maths/sampling.py", "models/training/drawing.py")
    move(copy, "models/maths/metrics.py", "models/scores/accuracy.py")
    move(copy, "features/prompts/cleaning.py", "features/words/tidying.py")
    move(copy, "features/encoders/overflow.py", "features/encoders/long.py")
    move(copy, "collect/sources/records.py", "collect/rows/lines.py")
    move(copy, "models/evaluate.py", "models/measure.py")
    for name in ("evaluate", "hindsight"):
        monkeypatch.setitem(stages.STAGES, name, stages.STAGES[name]._replace(module="cliper.models.measure"))
    assert changed(copy) == set()


def test_a_variant_keeps_its_id_in_another_file(copy: Path) -> None:
    for folder, old, new, name in (
        ("models/backbones", "freedom", "thawed", "Freedom"),
        ("features/encoders", "longclip", "long", "LongClip"),
        ("collect/sources", "mmrec", "films", "Mmrec"),
    ):
        move(copy, f"{folder}/{old}.py", f"{folder}/{new}.py")
        stage = {"models": "train", "features": "weights", "collect": "catalogue"}[folder.partition("/")[0]]
        place = f"cliper.{folder.replace('/', '.')}.{new}:{name}"
        assert Sources(copy).code_id(stage, place) == BEFORE[stage, PLACES[old]]


def test_a_function_that_moves_to_another_module_keeps_all_ids(copy: Path) -> None:
    freedom, nearest = "models/backbones/freedom.py", "models/maths/nearest.py"
    moved = cut(copy, freedom, "def equal_edges", "def item_graph")
    append(copy, nearest, "from cliper.models.maths.sparse import DEGREE_FLOOR as FLOOR, Edges as Links\n\n\n")
    append(copy, nearest, moved.replace("DEGREE_FLOOR", "FLOOR").replace("Edges", "Links"))
    edit(copy, freedom, "(equal_edges(", "(nearest_module.equal_edges(")
    mark = "from typing import ClassVar\n"
    edit(copy, freedom, mark, f"{mark}from cliper.models.maths import nearest as nearest_module\n")
    assert changed(copy) == set()


def test_new_variants_keep_the_ids_of_all_others(copy: Path) -> None:
    for folder, old, new in (
        ("models/backbones", "bpr", "popular"),
        ("features/encoders", "sentence", "letters"),
        ("collect/sources", "mmrec", "films"),
    ):
        shutil.copy(copy / f"cliper/{folder}/{old}.py", copy / f"cliper/{folder}/{new}.py")
    edit(copy, "models/backbones/popular.py", "class Bpr(", "class Popular(")
    edit(copy, "features/encoders/letters.py", "class Sentence(", "class Letters(")
    edit(copy, "collect/sources/films.py", "class Mmrec(", "class Films(")
    for folder, settings, place in (
        ("models/backbones", "BprSettings", "cliper.models.backbones.popular:Popular"),
        ("features/encoders", "SentenceSettings", "cliper.features.encoders.letters:Letters"),
        ("collect/sources", "MmrecSettings", "cliper.collect.sources.films:Films"),
    ):
        edit(copy, f"{folder}/__init__.py", "    },\n)", f'        "new": Row({settings}, "{place}"),\n    }},\n)')
    assert changed(copy) == set()
    new = ids(
        copy,
        [
            ("train", "cliper.models.backbones.popular:Popular"),
            ("weights", "cliper.features.encoders.letters:Letters"),
            ("catalogue", "cliper.collect.sources.films:Films"),
        ],
    )
    assert len(set(new.values()) - set(BEFORE.values())) == 3


REGISTRY = """
    from cliper.variants import Row, Variants

    BACKBONES = {begin}{{
        "freedom": Row("{title}", "cliper.models.backbones.freedom:Freedom"),
        "bpr": Row("BPR", "cliper.models.backbones.bpr:Bpr"),
    }}{end}

    def find(name):
        return BACKBONES[name]
"""


@pytest.mark.parametrize(("begin", "end"), [("", ""), ('Variants("backbone", ', ")")], ids=["dict", "call"])
def test_a_registry_of_places_is_followed_but_not_hashed(copy: Path, begin: str, end: str) -> None:
    def train() -> list[str]:
        return list(ids(copy, [("train", PLACES["freedom"]), ("train", PLACES["bpr"])]).values())

    file = "models/backbones/__init__.py"
    (copy / "cliper" / file).write_text(dedent(REGISTRY.format(begin=begin, end=end, title="FREEDOM")))
    freedom, bpr = train()
    assert freedom != bpr
    edit(copy, file, "FREEDOM", "Freedom (2023)")
    assert train() == [freedom, bpr]
    edit(copy, "models/backbones/freedom.py", "(1 - settings.image_weight)", "settings.image_weight")
    edited, other = train()
    assert edited != freedom
    assert other == bpr


ENCODING = {cell for cell in BEFORE if cell[0].startswith("encode-")}


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("models/backbones/freedom.py", "(1 - settings.image_weight)", "1", of("train", "freedom")),
        ("models/maths/losses.py", "dim=1).sigmoid()", "dim=0).sigmoid()", of("train", "bpr", "lightgcn", "vbpr")),
        ("models/backbones/base.py", "return 1.0", "return 2.0", of("train")),
        (
            "models/backbones/base.py",
            "torch.zeros(interactions",
            "torch.ones(interactions",
            of("train", "dualgnn", "mmgcn", "slmrec"),
        ),
        ("models/maths/metrics.py", "1 / np.log2", "2 / np.log2", {("evaluate",), ("hindsight",)}),
        ("models/maths/nearest.py", "def sharing_users(", "def sharers(", {("neighbours-users",)}),
        ("collect/interactions/splits.py", "n // 5", "n // 4", of("catalogue")),
        ("collect/sources/amazon2014.py", '"imUrl"', '"image"', of("catalogue", "amazon2014", "mmrec")),
        (
            "features/encoders/base.py",
            "class Encoder:",
            "class Encoder(object):",
            {*ENCODING, *STORED, *of("weights", "bridge", "open_clip")},  # both encode to be made ready
        ),
        (
            "features/encode.py",
            "CHUNK = 4_096",
            "CHUNK = 2_048",
            {cell for cell in ENCODING if "default" not in cell[0]},
        ),
        ("features/encode.py", "NO_ITEM = -1", "NO_ITEM = -2", of("encode-default-image")),
    ],
)
def test_an_edit_changes_the_ids_of_what_it_decides(
    copy: Path, file: str, old: str, new: str, expected: set[Key]
) -> None:
    edit(copy, file, old, new)
    assert changed(copy) == expected


def test_edits_of_the_frame_and_the_config_change_no_id(copy: Path) -> None:
    frame = [*(copy / "cliper").glob("*.py"), *(copy / "cliper/config").glob("*.py")]
    for path in frame:
        path.write_text(path.read_text(encoding="utf-8").replace("return ", "return not "))
    assert changed(copy) == set()


def test_comments_docstrings_layout_and_annotations_change_no_id(copy: Path) -> None:
    for path in (copy / "cliper").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                has_docstring = ast.get_docstring(node) is not None
                node.body = [ast.Expr(ast.Constant("Another docstring.")), *node.body[has_docstring:]]
                node.returns = None
                for argument in (*node.args.args, *node.args.kwonlyargs):
                    argument.annotation = ast.Constant("Another")
        path.write_text(f"# A comment.\n{ast.unparse(tree)}\n")
    assert changed(copy) == set()


def test_settings_change_no_id(copy: Path) -> None:
    for value in (1, 2):
        (copy / "cliper/models/backbones/bpr_settings.py").write_text(f"DEFAULT = {value}\n")
        if value == 1:
            append(copy, "models/backbones/bpr.py", "from cliper.models.backbones.bpr_settings import DEFAULT\n")
            edit(
                copy, "models/backbones/bpr.py", "class Bpr(Backbone):", "class Bpr(Backbone):\n    default = DEFAULT\n"
            )
            found = Sources(copy).code_id("train", PLACES["bpr"])
    assert Sources(copy).code_id("train", PLACES["bpr"]) == found != BEFORE["train", PLACES["bpr"]]


def id_of(folder: Path, **modules: str) -> str:
    """The id of a training with a user's own `backbone.Mine`; a module that were imported would raise."""
    folder.mkdir(exist_ok=True)
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(f"{dedent(source)}\nraise RuntimeError('imported')\n")
    return Sources(toy.REPOSITORY).code_id("train", "backbone:Mine")


MINE = """
    import helper
    from cliper.models.maths.losses import bpr
    from cliper.models.backbones.base import Backbone as Base

    class Mine(Base):
        def loss(self, triples):
            return bpr(*helper.rows(triples))

    def unused():
        return 1
"""
HELPER = "def rows(triples):\n    return triples\ndef other():\n    return 1"


def test_a_users_own_module_counts_with_what_it_takes_from_its_folder(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    monkeypatch.syspath_prepend(mine)
    first = id_of(mine, backbone=MINE, helper=HELPER)
    assert id_of(mine, backbone=MINE.replace("return 1", "return 2"), helper=HELPER) == first
    assert id_of(mine, backbone=MINE, helper=HELPER.replace("return 1", "return 2")) == first
    edited = id_of(mine, backbone=MINE.replace("bpr(*", "-bpr(*"), helper=HELPER)
    neighbour = id_of(mine, backbone=MINE, helper=HELPER.replace("return triples", "return -triples"))
    edit(copy, "models/maths/losses.py", "-F.logsigmoid", "F.logsigmoid")
    ours = Sources(copy).code_id("train", "backbone:Mine")
    assert len({first, edited, neighbour, ours, *BEFORE.values()}) == 4 + len(set(BEFORE.values()))


def test_a_users_package_counts_with_its_own_modules_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "site-packages"
    (installed / "pack").mkdir(parents=True)
    monkeypatch.syspath_prepend(installed)
    sources = {
        "pack/__init__.py": "from .backbone import Mine",
        "pack/backbone.py": "from . import deeper\nimport library\nclass Mine:\n    both = deeper.A, library.B",
        "pack/deeper.py": "from .rows import *\nC = 1\nfrom .last import *",
        "pack/rows.py": "A = 1",
        "pack/last.py": "from .deeper import *",
        "library.py": "B = 1",
    }

    def edited(file: str, old: str = "", new: str = "") -> str:
        for name, source in sources.items():
            (installed / name).write_text(source.replace(old, new) if name == file else source)
        return Sources(toy.REPOSITORY).code_id("train", "pack:Mine")

    first = edited("")
    assert edited("pack/rows.py", "A = 1", "A = 2") != first
    assert edited("pack/backbone.py", "deeper.A,", "deeper.A, 1,") != first
    assert edited("library.py", "B = 1", "B = 2") == first
    assert Sources(toy.REPOSITORY).code_id("train", "pack.backbone:Mine") == first
    (installed / "pack/my_settings.py").write_text("class Mine: ...")
    assert Sources(toy.REPOSITORY).code_id("train", "pack.my_settings:Mine") not in {first, *BEFORE.values()}


SAME = {
    "an alias": ("from math import log\nclass Mine: f = log(2)", "import math as m\nclass Mine: f = m.log(2)"),
    "a local import": (
        "import math\nclass Mine:\n    def f(self): return math.log(2)",
        "class Mine:\n    def f(self):\n        from math import log as ln\n        return ln(2)",
    ),
    "a local name": (
        "class Mine:\n    def f(self, rows): return [x for x in rows]\nrows = x = 1",
        "class Mine:\n    def f(self, rows): return [x for x in rows]\nrows = x = 2",
    ),
    "a constant's type": ("X: int = 1\nclass Mine: x = X", "X = 1\nclass Mine: x = X"),
    "another function's import": (
        "class Mine: x = max(1, 2)",
        "def g():\n    from a import f as max\nclass Mine: x = max(1, 2)",
    ),
    "what a field's type says": (
        "class T: x = 1\nclass Mine:\n    y: T = None",
        "class T: x = 2\nclass Mine:\n    y: T = None",
    ),
    "what a script does": ("class Mine: ...", "class Mine: ...\nif __name__ == '__main__':\n    print(Mine())"),
}
OTHER = {
    "another function under the same name": (
        "from math import log2 as log\nclass Mine: f = log(2)",
        "from math import log10 as log\nclass Mine: f = log(2)",
    ),
    "two functions of one name changed places": (
        "import a, b\nclass Mine: f = a.f(1) - b.f(1)",
        "import a, b\nclass Mine: f = b.f(1) - a.f(1)",
    ),
    "a field's type": ("class Mine:\n    x: int = 1", "class Mine:\n    x: ClassVar[int] = 1"),
    "the order of fields": ("class Mine:\n    x: int\n    y: int", "class Mine:\n    y: int\n    x: int"),
    "another method's local name": (
        "X = 1\nclass Mine:\n    def f(self): return X\n    def g(self): X = 2",
        "X = 3\nclass Mine:\n    def f(self): return X\n    def g(self): X = 2",
    ),
    "a comprehension over a name that it binds": (
        "x = [1]\nclass Mine:\n    def f(self): return [x for x in x]",
        "x = [2]\nclass Mine:\n    def f(self): return [x for x in x]",
    ),
    "a list that grows": ("X = []\nX += [1]\nclass Mine: x = X", "X = []\nX += [2]\nclass Mine: x = X"),
    "a loop that fills": (
        "X = {}\nfor i in (1, 2):\n    X[i] = i\nclass Mine: x = X",
        "X = {}\nfor i in (1, 2, 3):\n    X[i] = i\nclass Mine: x = X",
    ),
    "a choice of imports": (
        "try:\n    from a import f\nexcept ImportError:\n    from b import f\nclass Mine: x = f(1)",
        "try:\n    from b import f\nexcept ImportError:\n    f = None\nclass Mine: x = f(1)",
    ),
    "a module as a value": ("import a\nclass Mine: x = a", "import b\nclass Mine: x = b"),
    "what a module does when imported": ("class Mine: ...", "import torch\ntorch.seed(1)\nclass Mine: ..."),
}


@pytest.mark.parametrize(
    ("one", "two", "is_same"),
    [
        *(pytest.param(*pair, True, id=name) for name, pair in SAME.items()),
        *(pytest.param(*pair, False, id=name) for name, pair in OTHER.items()),
    ],
)
def test_an_id_says_what_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: str, two: str, is_same: bool
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    neighbour = {"a": "def f(x):\n    return x + 1", "b": "def f(x):\n    return x + 2"}
    assert (id_of(tmp_path, backbone=one, **neighbour) == id_of(tmp_path, backbone=two, **neighbour)) == is_same


def test_classes_that_name_each_other_have_ids_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    first = id_of(tmp_path, backbone="class Mine:\n    def f(self): return Yours\nclass Yours(Mine): ...")
    assert Sources(toy.REPOSITORY).code_id("train", "backbone:Yours") != first


def test_an_unknown_stage_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown stage 'encod'; known: catalogue, compare, crawl"):
        code_id("encod")


def test_an_unknown_variant_is_answered_with_what_its_module_defines() -> None:
    with pytest.raises(ConfigError, match="unknown name in cliper.models.backbones.bpr 'Latice'; known: Bpr"):
        code_id("train", "cliper.models.backbones.bpr:Latice")
    with pytest.raises(ConfigError, match="Python finds no source of a module latice"):
        code_id("train", "latice")


def test_a_place_without_a_definition_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="Python finds no source of a module backbone; is its folder on PYTHONPATH"):
        code_id("train", "backbone:Mine")
    with pytest.raises(ConfigError, match="unknown name in backbone 'Mine'; known: Yours"):
        id_of(tmp_path, backbone="class Yours: ...")
    with pytest.raises(ConfigError, match="backbone.py is no Python: invalid syntax"):
        id_of(tmp_path, backbone="class Mine ...")
