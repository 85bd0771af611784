"""The code id: a short hash of the source code that a stage uses, wherever that code is.

Definitions are hashed: functions, classes and values at a module's top level. The walk starts at the stage's function
and the chosen variants. It follows each name to the definition of ours that it means; a class is hashed as a whole. So
files may be renamed and moved, and a definition may move to another module. Sources are parsed, never imported.

Left out:
- comments, docstrings, layout, import statements and annotations, which compute nothing. Fields of a class keep their
  annotations, as text, because a dataclass reads them
- the frame: `cliper/x.py` and `cliper/config` know no stage's meaning
- modules named `…_settings`: their values are among the rules' params
- registries: names in capitals in the `__init__` of our packages that hold a dict, or a call with a dict as argument

Not seen: definitions that are looked up by a string at run time, and what a module does on import if none of its names
is used.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from cliper.errors import ConfigError, unknown
from cliper.stages import find

PACKAGE = Path(__file__).parent
PLACE = re.compile(r"cliper(\.\w+)+:[A-Za-z_]\w*")  # a string that names a definition of ours
ON_IMPORT = ""  # the name for statements at a module's top level that define no name
SILENT_FIELDS = frozenset({"ctx", "kind", "returns", "type_comment", "type_params"})


class Import(NamedTuple):
    """What an import binds a name to: a module, or something in it."""

    module: str
    name: str | None


@dataclass(eq=False)
class Module:
    """A module of ours; if it does not count, it is not parsed and stays empty."""

    name: str
    folder: Path  # that contains its top package
    is_package: bool
    counts: bool
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, list[Import]] = field(default_factory=dict)  # several where a `try` or an `if` decides


class Definition(NamedTuple):
    """A definition of ours; without a name, a whole module."""

    module: Module
    name: str | None


class Reading(NamedTuple):
    """A definition's text, and the definitions that it names, in order."""

    text: str
    named: list[Definition]


@cache
def code_id(stage: str, *variants: str) -> str:
    """Short hash of the source that decides a stage's output.

    variants  module:Name of each variant that the stage uses, ours or a user's

    Raises ConfigError if the stage or a variant is unknown.
    """
    return _installed().code_id(stage, *variants)


@cache
def _installed() -> Sources:
    return Sources(PACKAGE.parent)


class Sources:
    """The package in a folder, and users' own modules. Each file is parsed once, each definition read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._modules: dict[tuple[str, Path], Module | None] = {}
        self._readings: dict[Definition, Reading] = {}
        self._resolved: dict[tuple[Module, Import], list[Definition | str]] = {}

    def code_id(self, stage: str, *variants: str) -> str:
        """See the function of this name."""
        begin = find(stage)
        todo = [self.locate(place) for place in (f"{begin.module}:{begin.function}", *variants)]
        said, seen = {self._digests(todo)}, set[Definition]()
        while todo:
            definition = todo.pop()
            if definition in seen:
                continue
            seen.add(definition)
            text, named = self.read(definition)
            said.add(f"{text} {self._digests(named)}")
            todo += named
            if ON_IMPORT in definition.module.definitions:
                todo.append(Definition(definition.module, ON_IMPORT))
        return _digest("\n".join(sorted(said)))[:12]

    def read(self, definition: Definition) -> Reading:
        """Read a definition, or a whole module. The text of a registry is empty."""
        if definition not in self._readings:
            module, name = definition
            if name is None:
                parts = sorted((Definition(module, one) for one in module.definitions), key=self._text)
                reading = Reading("\n".join(map(self._text, parts)), parts)
            elif _is_registry(definition):
                reading = Reading("", [])
            else:
                reading = _Reader(self, module).read(module.definitions.get(name, []))
            self._readings[definition] = reading
        return self._readings[definition]

    def locate(self, place: str) -> Definition:
        """Find the definition at module:Name. Raises ConfigError if there is none."""
        name, _, attribute = place.partition(":")
        top = name.partition(".")[0]
        folder = self._folder if top == PACKAGE.name else _folder_of(top)
        module = self.find(name, folder) if folder else None
        if module is None:
            raise ConfigError(f"{place}: Python finds no source of a module {name}; is its folder on PYTHONPATH?")
        for found in self.member(module, attribute):
            if isinstance(found, Definition) and found.name is not None:
                return found
        raise ConfigError(unknown(f"name in {name}", attribute, filter(None, module.definitions)))

    def find(self, name: str, folder: Path) -> Module | None:
        """Find a module by its name below a folder, and parse it if it counts."""
        if (name, folder) not in self._modules:
            path = folder.joinpath(*name.split("."))
            init, file = path / "__init__.py", path.with_name(f"{path.name}.py")
            source = next((one for one in (init, file) if one.is_file()), None)
            module = None
            if source or any(path.glob("*.py")):  # a package may lack its __init__
                module = Module(name, folder, source != file, _counts(name, is_package=source != file))
            self._modules[name, folder] = module
            if module and source and module.counts:
                self._parse(module, source)
        return self._modules[name, folder]

    def resolve(self, importer: Module, imported: Import) -> list[Definition | str]:
        """What an import means: a definition or module of ours, or the full name of anything else."""
        if (importer, imported) not in self._resolved:
            self._resolved[importer, imported] = []  # two modules may import * from each other
            name, attribute = imported
            folder = self._home(importer, name.partition(".")[0])
            module = self.find(name, folder) if folder else None
            if module is None:
                found: list[Definition | str] = [f"{name}.{attribute}" if attribute else name]
            else:
                found = self.member(module, attribute) if attribute else [Definition(module, None)]
            self._resolved[importer, imported] = found
        return self._resolved[importer, imported]

    def member(self, module: Module, name: str) -> list[Definition | str]:
        """What `module.name` means."""
        if module.is_package and (inner := self.find(f"{module.name}.{name}", module.folder)):
            return [Definition(inner, None)]
        return self.look_up(module, name, module.imports) or [Definition(module, None if module.counts else name)]

    def look_up(self, module: Module, name: str, imports: dict[str, list[Import]]) -> list[Definition | str]:
        """What a name means at a module's top level; nothing for a builtin."""
        own: list[Definition | str] = [Definition(module, name)] if name in module.definitions else []
        return own + [found for one in imports.get(name, []) for found in self.resolve(module, one)]

    def _text(self, definition: Definition) -> str:
        return self.read(definition).text

    def _digests(self, named: list[Definition]) -> str:
        """Digests of the named definitions: names alone do not identify them, since several may be equal."""
        return " ".join(_digest(self._text(one)) for one in named)

    def _home(self, importer: Module, top: str) -> Path | None:
        """Folder of a package that is hashed: cliper, the importer's own package, or one next to a user's module."""
        own = importer.name.partition(".")[0]
        if top == PACKAGE.name:
            return self._folder
        is_users = own != PACKAGE.name and importer.folder.name not in ("site-packages", "dist-packages")
        return importer.folder if top == own or is_users else None

    def _parse(self, module: Module, source: Path) -> None:
        try:
            tree = ast.parse(source.read_bytes())
        except (SyntaxError, ValueError) as error:
            raise ConfigError(f"{source} is no Python: {error}") from None
        for statement in tree.body:
            for name in _bound([statement]) | ({ON_IMPORT} if _acts(statement) else set()):
                module.definitions.setdefault(name, []).append(statement)
            if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                self.collect_imports(module, statement, module.imports)

    def collect_imports(self, module: Module, tree: ast.AST, imports: dict[str, list[Import]]) -> None:
        """Add the imports anywhere in a tree to `imports`, by the names that they bind."""
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    bound = alias.asname or alias.name.partition(".")[0]
                    imports.setdefault(bound, []).append(Import(alias.name if alias.asname else bound, None))
            elif isinstance(node, ast.ImportFrom):
                origin = _origin(module, node)
                for alias in node.names:
                    if alias.name == "*":
                        self._collect_all(module, origin, imports)
                    else:
                        imports.setdefault(alias.asname or alias.name, []).append(Import(origin, alias.name))

    def _collect_all(self, module: Module, origin: str, imports: dict[str, list[Import]]) -> None:
        folder = self._home(module, origin.partition(".")[0])
        other = self.find(origin, folder) if folder else None
        for name in filter(None, (*other.definitions, *other.imports) if other else ()):
            imports.setdefault(name, []).append(Import(origin, name))


class _Reader:
    """Writes a module's statements as a text that does not depend on where the definitions that they name are."""

    def __init__(self, sources: Sources, module: Module) -> None:
        self._sources, self._module = sources, module
        self._imports = module.imports
        self._named: list[Definition] = []

    def read(self, nodes: Iterable[ast.AST]) -> Reading:
        """Read statements or expressions of the module's top level."""
        nodes, inner = list(nodes), dict[str, list[Import]]()
        for node in nodes:
            self._sources.collect_imports(self._module, node, inner)
        self._imports = self._module.imports | inner
        return Reading(self._write(nodes, frozenset()), self._named)

    def _write(self, node: object, hidden: frozenset[str]) -> str:
        """Write a part of the tree.

        hidden  names that the enclosing functions bind: they do not mean the module's
        """
        if isinstance(node, list):
            return f"[{','.join(filter(None, (self._write(one, hidden) for one in node)))}]"
        if not isinstance(node, ast.AST):
            return ascii(node)
        match node:
            case ast.Import() | ast.ImportFrom() | ast.Pass() | ast.Expr(value=ast.Constant()):
                return ""
            case ast.Constant(value=str() as text) if PLACE.fullmatch(text):
                return self._name([self._sources.locate(text)])
            case ast.Constant():
                return ascii(node.value)
            case ast.Name() | ast.Attribute() if meant := self._meant(node, hidden):
                return self._name(meant)
            case ast.arg():
                return node.arg
            case ast.AnnAssign():
                return self._write(ast.Assign([node.target], node.value), hidden) if node.value else ""
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                body = node.body if isinstance(node.body, list) else [node.body]
                return self._fields(node, hidden, body=self._write(body, hidden | _bound([node.args, *body])))
            case ast.ClassDef():
                parts = [self._in_class(statement, hidden) for statement in node.body]
                return self._fields(node, hidden, body=",".join(filter(None, parts)))
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                inside = hidden | _bound(one.target for one in node.generators)
                loops = [self._fields(one, inside, iter=self._write(one.iter, hidden)) for one in node.generators]
                return self._fields(node, inside, generators=",".join(loops))
        return self._fields(node, hidden)

    def _fields(self, node: ast.AST, hidden: frozenset[str], **written: str) -> str:
        """Write a node with its fields. Empty fields are left out: Python's versions differ in which they have."""
        fields = []
        for name, value in ast.iter_fields(node):
            if name in written or (name not in SILENT_FIELDS and value is not None and value != []):
                fields.append(f"{name}={written[name] if name in written else self._write(value, hidden)}")
        return f"{type(node).__name__}({','.join(fields)})"

    def _in_class(self, statement: ast.stmt, hidden: frozenset[str]) -> str:
        if not isinstance(statement, ast.AnnAssign):
            return self._write(statement, hidden)
        n_named = len(self._named)
        annotation = self._write(statement.annotation, hidden)
        del self._named[n_named:]
        return self._fields(statement, hidden, annotation=annotation)

    def _meant(self, node: ast.expr, hidden: frozenset[str]) -> list[Definition | str]:
        """What a name or a dotted name means; nothing where that is known only at run time."""
        match node:
            case ast.Name(ctx=ast.Load()) if node.id not in hidden:
                return self._sources.look_up(self._module, node.id, self._imports)
            case ast.Attribute(ctx=ast.Load()):
                found = list[Definition | str]()
                for owner in self._meant(node.value, hidden):
                    if isinstance(owner, str):
                        found.append(f"{owner}.{node.attr}")
                    elif owner.name is None:
                        found += self._sources.member(owner.module, node.attr)
                return found
        return []

    def _name(self, meant: list[Definition | str]) -> str:
        self._named += [one for one in meant if isinstance(one, Definition) and one.module.counts]
        names = [one if isinstance(one, str) else one.name or "module" for one in meant]
        return f"Name({'|'.join(names)})"


def _counts(name: str, *, is_package: bool) -> bool:
    """Whether a module is hashed: neither the frame nor settings are."""
    parts = name.split(".")
    is_frame = parts[0] == PACKAGE.name and (parts[1:2] in ([], ["config"]) or (len(parts) == 2 and not is_package))
    return not is_frame and not name.endswith("_settings")


def _is_registry(definition: Definition) -> bool:
    """Whether a definition lists variants."""
    module, name = definition
    if name and name.isupper() and module.is_package and module.name.startswith(f"{PACKAGE.name}."):
        match module.definitions.get(name):
            case [ast.Assign(value=value) | ast.AnnAssign(value=value)]:
                parts = [value, *value.args] if isinstance(value, ast.Call) else [value]
                return any(isinstance(part, ast.Dict) for part in parts)
    return False


def _bound(nodes: Iterable[ast.AST]) -> frozenset[str]:
    """Names that some code binds, other than by imports. What its inner functions bind is theirs alone."""
    bound, elsewhere, todo = set[str](), set[str](), list(nodes)
    while todo:
        node = todo.pop()
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                bound.add(name)
                continue
            case ast.Lambda() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                continue
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
                bound.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                bound.add(name)
            case ast.MatchMapping(rest=str(name)):
                bound.add(name)
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                elsewhere |= set(names)
        todo += ast.iter_child_nodes(node)
    return frozenset(bound - elsewhere)


def _acts(statement: ast.AST) -> bool:
    """Whether a statement at a module's top level does more than bind names."""
    match statement:
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
            return False
        case ast.If() | ast.Try() | ast.ExceptHandler():
            parts = ast.iter_child_nodes(statement)
            return any(_acts(part) for part in parts if isinstance(part, ast.stmt | ast.ExceptHandler))
        case ast.Assign() | ast.AugAssign():
            return not _bound([statement])
        case ast.Expr():
            return not isinstance(statement.value, ast.Constant)
    given = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.AnnAssign, ast.Import, ast.ImportFrom, ast.Pass)
    return not isinstance(statement, given)


def _origin(module: Module, node: ast.ImportFrom) -> str:
    """The full name of the module that something is imported from."""
    package = module.name.split(".")[: -node.level + module.is_package or None] if node.level else []
    return ".".join([*package, *filter(None, [node.module])])


def _folder_of(top: str) -> Path | None:
    """The folder that contains a package or module that is not ours."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).parent
    return Path(spec.origin).parent if spec.origin else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
