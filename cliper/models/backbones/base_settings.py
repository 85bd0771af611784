"""What the settings of every backbone share. A run is planned by them, so nothing here needs torch."""

from __future__ import annotations

from typing import Any, ClassVar

from cliper.errors import ConfigError
from cliper.settings import Settings


class BackboneSettings(Settings):
    """A backbone's section of the config; as attributes of the class, what planning a run must know about it.

    title            its name in tables
    uses_features    reads item features: runs with every arm; if False, with the arm content_free alone
    uses_item_graph  reads the neighbours of items by image and by text features
    uses_user_graph  reads the neighbours of users by shared train items
    decays_by_adam   as_mmrec, weight decay is Adam's alone: the toolbox adds no L2 term of the batch to its loss
    """

    title: ClassVar[str]
    uses_features: ClassVar[bool] = False
    uses_item_graph: ClassVar[bool] = False
    uses_user_graph: ClassVar[bool] = False
    decays_by_adam: ClassVar[bool] = False

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Refuse a class without a title here, not when the first table is written."""
        if not hasattr(cls, "title"):
            raise ConfigError(f'{cls.__name__} has no title; add title: ClassVar[str] = "…", its name in tables')
