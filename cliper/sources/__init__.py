"""Kinds of raw data. Each module reads two things:

read_interactions(paths)          user_id, asin, rating, timestamp in the file's order; a source with a split of
                                  its own adds user, item and split
read_items(paths, wanted)         asin, title, brand, categories, description, image_url of the wanted asins
"""

from types import ModuleType

from cliper.sources import amazon2014, mmrec

SOURCES: dict[str, ModuleType] = {"amazon2014": amazon2014, "mmrec": mmrec}
