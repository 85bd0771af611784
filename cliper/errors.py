"""What can go wrong, as one tree.

CliperError             one sentence for the user (what, where, what to do) and exit code 2
├── ConfigError         the config file asks for something that cannot be
├── DataError           a file or table is missing, broken or does not fit the others
│   ├── SchemaError     a table breaks its schema
│   └── SourceError     raw data cannot be fetched or read
├── FeatureError        embeddings or features that cannot be used
└── TrainingError       training cannot go on, for example a loss that is not finite

Any other exception is a bug of ours: a traceback and exit code 1.
"""

from __future__ import annotations

from collections.abc import Iterable


class CliperError(Exception):
    """An error the user can act on: one sentence saying what, where and what to do."""


class ConfigError(CliperError):
    """The config file asks for something that cannot be."""


class DataError(CliperError):
    """A file or table is missing, broken or does not fit the others."""


class SchemaError(DataError):
    """A table breaks its schema."""


class SourceError(DataError):
    """Raw data cannot be fetched or read."""


class FeatureError(CliperError):
    """Embeddings or features that cannot be used."""


class TrainingError(CliperError):
    """Training cannot go on."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Say that a name is unknown and which names are known.

    >>> unknown("backbone", "latice", ["lightgcn", "freedom"])
    "unknown backbone 'latice'; known: freedom, lightgcn"
    """
    return f"unknown {kind} {name!r}; known: {', '.join(sorted(known)) or 'none'}"
