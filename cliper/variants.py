"""Variants of backbones, encoders and sources: one of ours, chosen by name, or a class in the user's own file.

Each kind of thing has one dict: name -> settings class, and the place of the class that computes. The settings are read
without importing that class, so checking a config and planning a run needs no torch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import ConfigDict

from cliper.errors import ConfigError, unknown
from cliper.settings import SchemaOf, Settings, fault, shown

S = TypeVar("S", bound=Settings)


class Own(Settings):
    """Settings of a user's own class, for the JSON schema, which cannot know them: any key is allowed."""

    model_config = ConfigDict(extra="allow")


class Row(NamedTuple, Generic[S]):
    """One of our variants."""

    settings: type[S]
    place: str  # module:Class


class Variant(NamedTuple, Generic[S]):
    """A variant as the config chooses it."""

    kind: str  # its name in our dict, or module:Class of the user's own class
    place: str  # module:Class
    settings: S

    @property
    def is_own(self) -> bool:
        """Whether it is a class of the user's own."""
        return self.kind == self.place

    def load(self) -> Any:
        """Import the class that computes."""
        return load_class(self.place)

    def as_mapping(self) -> dict[str, Any]:
        """The variant as the config writes it."""
        return {"class" if self.is_own else "kind": self.kind, **dict(self.settings)}


class Variants(NamedTuple, Generic[S]):
    """All variants of one kind of thing.

    what  the kind's name in messages
    base  module:Class that a user's own class must subclass; that class has its settings class as `Settings`
    rows  our variants by name
    """

    what: str
    base: str
    rows: Mapping[str, Row[S]]

    def choose(self, raw: Any, *, kind: str | None = None) -> Variant[S]:
        """Choose the variant that a mapping of the config names by `kind` or by `class`.

        kind  the kind where it is known already, so that the mapping may leave it out

        Raises pydantic's errors, each a sentence.
        """
        if not isinstance(raw, Mapping):
            raise fault(f"{shown(raw)} is no mapping of keys to values")
        given = dict(raw)
        if place := given.pop("class", None):
            return self._choose_own(place, given)
        if kind is None or given.get("kind") == kind:
            kind = given.pop("kind", None)
        if kind is None:
            raise fault(f"kind is missing; known: {', '.join(self.rows)}; or class: module:Class for one of your own")
        if not isinstance(kind, str) or kind not in self.rows:
            raise fault(f"{shown(kind)} is not known; known: {', '.join(self.rows)}")
        row = self.rows[kind]
        return Variant(kind, row.place, row.settings.model_validate(given))

    def schema(self) -> SchemaOf:
        """JSON schema of a mapping that chooses by `kind` or by `class`."""
        ours = [(row.settings, {"kind": {"const": name}}) for name, row in self.rows.items()]
        return SchemaOf(*ours, (Own, {"class": {"type": "string", "pattern": r"^[\w.]+:\w+$"}}))

    def _choose_own(self, place: Any, given: Mapping[str, Any]) -> Variant[S]:
        try:
            found = load_class(place)
        except ConfigError as error:
            raise fault(str(error)) from None
        if not (isinstance(found, type) and issubclass(found, load_class(self.base))):
            raise fault(f"{place} is no {self.what}: it must subclass {self.base.replace(':', '.')}")
        settings: type[S] | None = getattr(found, "Settings", None)
        if settings is None:
            raise fault(f"{place} has no Settings; give the class its settings class by this name")
        home = f"{self.base.partition(':')[0]}_settings"
        if not (isinstance(settings, type) and any(each.__module__ == home for each in settings.__mro__)):
            raise fault(f"the Settings of {place} are no settings of a {self.what}: subclass those of {home}")
        if absent := sorted(getattr(found, "__abstractmethods__", ())):
            raise fault(f"{place} lacks {', '.join(absent)}, which every {self.what} has; write it")
        return Variant(place, place, settings.model_validate(given))


def load_class(place: str) -> Any:
    """Import the class that `module:Class` names, also from a module in the current folder.

    Raises ConfigError if it does not exist.
    """
    module, _, name = place.partition(":") if isinstance(place, str) else ("", "", "")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise ConfigError(f"{shown(place)} is no module:Class, such as my_module:MyClass")
    if not {"", here := str(Path.cwd())} & set(sys.path):
        sys.path.append(here)
    try:
        found = import_module(module)
    except (ImportError, SyntaxError) as error:
        is_found = not isinstance(error, ModuleNotFoundError) or error.name not in (module, module.partition(".")[0])
        advice = "" if is_found else f"; start where {module.replace('.', '/')}.py lies, or install it"
        raise ConfigError(f"{place} cannot be imported ({error}){advice}") from None
    if not hasattr(found, name):
        raise ConfigError(unknown(f"class of {module}", name, _own_classes(found)))
    return getattr(found, name)


def _own_classes(module: ModuleType) -> Iterable[str]:
    """Names of the classes that a module defines itself, without those that it imports."""
    found = vars(module).items()
    return [name for name, value in found if isinstance(value, type) and value.__module__ == module.__name__]
