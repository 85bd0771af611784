"""Choose items and users of a dataset to look at, and gather what the report shows of them.

In:   items, users, train, test; images and the shards of crawl; prompts, text_embeddings, features and view_weights of
      the run's arms; the weights' tokenisers; the topk of one seed
Out:  explored.json
"""

from __future__ import annotations

from cliper.config import decides
from cliper.layout import At


def run(job: decides.Explore, at: At) -> None:
    """Choose, gather, write."""
    raise NotImplementedError
