"""The sources by kind. A new one: a file with its settings, a file with its class, a row here, its test.

No class that reads files is imported here, so that a config is checked without polars.
"""

from __future__ import annotations

from cliper.collect.sources.amazon2014_settings import Amazon2014Settings
from cliper.collect.sources.amazon2018_settings import Amazon2018Settings
from cliper.collect.sources.amazon2023_settings import Amazon2023Settings
from cliper.collect.sources.base_settings import SourceSettings
from cliper.collect.sources.mmrec_settings import MmrecSettings
from cliper.collect.sources.table_settings import TableSettings
from cliper.variants import Row, Variants

SOURCES: Variants[SourceSettings] = Variants(
    "source",
    "cliper.collect.sources.base:Source",
    {
        "amazon2014": Row(Amazon2014Settings, "cliper.collect.sources.amazon2014:Amazon2014"),
        "amazon2018": Row(Amazon2018Settings, "cliper.collect.sources.amazon2018:Amazon2018"),
        "amazon2023": Row(Amazon2023Settings, "cliper.collect.sources.amazon2023:Amazon2023"),
        "mmrec": Row(MmrecSettings, "cliper.collect.sources.mmrec:Mmrec"),
        "table": Row(TableSettings, "cliper.collect.sources.table:Table"),
    },
)
