"""Kinds of raw data. Each module reads two things:

read_interactions(paths)          user_id, asin, rating, timestamp in the file's order; a source with a split of
                                  its own adds split, and where it numbers them user and item
read_items(paths, wanted)         asin, title, brand, categories, description, image_url of the wanted asins

`table` is told the names of its columns besides.
"""

from types import ModuleType

from cliper.collect.sources import amazon2014, amazon2018, amazon2023, mmrec, table

SOURCES: dict[str, ModuleType] = {
    "amazon2014": amazon2014,
    "amazon2018": amazon2018,
    "amazon2023": amazon2023,
    "mmrec": mmrec,
    "table": table,
}
