"""The config: YAML files laid over each other, checked, and turned into frozen typed models.

`whole` has the sections. All values come from `config.yaml`: nothing here has a second default.
"""

from cliper.config.collect import is_url
from cliper.config.reading import lay_over, load, read, structure, write
from cliper.config.whole import CONTENT_FREE, Cell, Config, GivenFeatures, MadeFeatures

__all__ = [
    "CONTENT_FREE",
    "Cell",
    "Config",
    "GivenFeatures",
    "MadeFeatures",
    "is_url",
    "lay_over",
    "load",
    "read",
    "structure",
    "write",
]
