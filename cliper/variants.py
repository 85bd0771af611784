"""What comes in variants (backbones, encoders, sources): ours by name, or a class of the user's own file.

Each kind has one dict: name -> settings class, and the place of the class that computes. The settings are read without
the class, so that a config is checked and a run planned without torch.
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
from cliper.settings import SchemaOf, Settings, fault

S = TypeVar("S", bound=Settings)


class Own(Settings):
    """Settings of a class of the user's own: those that it declares."""

    model_config = ConfigDict(extra="allow")


class Row(NamedTuple, Generic[S]):
    """One variant of ours."""

    settings: type[S]
    place: str  # module:Class


class Variant(NamedTuple, Generic[S]):
    """A variant as the config chooses it."""

    kind: str  # its name in our dict, or module:Class of the user's own
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

    what  its name in messages
    base  module:Class that a class of the user's own must subclass; its `Settings` are the class's settings
    rows  ours
    """

    what: str
    base: str
    rows: Mapping[str, Row[S]]

    def choose(self, raw: Any, *, kind: str | None = None) -> Variant[S]:
        """The variant that a mapping of the config asks for by `kind`, or by `class`.

        kind  what the mapping is, which then need not say it

        Raises pydantic's errors, with a sentence each.
        """
        if not isinstance(raw, Mapping):
            raise fault(f"{raw!r} is no mapping of keys to values")
        given = dict(raw)
        if place := given.pop("class", None):
            return self._choose_own(place, given)
        if kind is None or given.get("kind") == kind:
            kind = given.pop("kind", None)
        if kind is None:
            raise fault(f"kind is missing; known: {', '.join(self.rows)}; or class: module:Class for one of your own")
        if not isinstance(kind, str) or kind not in self.rows:
            raise fault(f"{kind!r} is not known; known: {', '.join(self.rows)}")
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
        return Variant(place, place, settings.model_validate(given))


def load_class(place: str) -> Any:
    """Import what `module:Class` names; modules in the current folder are found too.

    Raises ConfigError with a sentence if there is no such thing.
    """
    module, _, name = place.partition(":") if isinstance(place, str) else ("", "", "")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise ConfigError(f"{place!r} is no module:Class, such as my_module:MyClass")
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
    """Names of the classes that a module defines; those that it imports are no answer."""
    found = vars(module).items()
    return [name for name, value in found if isinstance(value, type) and value.__module__ == module.__name__]
