"""Where each result lies below `results/<name>/`: one pattern a file, used by the stages and by the rules.

The words in braces are the names a stage takes on the command line and the wildcards of its rule.
"""

from __future__ import annotations

from pathlib import Path

PATHS: dict[str, str] = {
    "raw": "download/{dataset}/{file}",
    "train": "catalogue/{dataset}/train.parquet",
    "valid": "catalogue/{dataset}/valid.parquet",
    "test": "catalogue/{dataset}/test.parquet",
    "users": "catalogue/{dataset}/users.parquet",
    "items": "catalogue/{dataset}/items.parquet",
    "counts": "catalogue/{dataset}/counts.parquet",
    "images": "crawl/{dataset}/images.parquet",
    "prompts": "prompt/{dataset}/{prompts}/{view}.parquet",
    "cleaning": "prompt/{dataset}/{prompts}/cleaning/{view}.parquet",
    "weights": "weights/{encoder}/weights.json",
    "text_embeddings": "encode/{dataset}/{encoder}/{prompts}/{view}.{shard}-of-{shards}.parquet",
    "image_embeddings": "encode/{dataset}/{encoder}/images.{shard}-of-{shards}.parquet",
    "default_image": "encode/default_image/{encoder}.parquet",
    "features": "fuse/{dataset}/{arm}/features.parquet",
    "view_weights": "fuse/{dataset}/{arm}/view_weights.parquet",
    "fallbacks": "fuse/{dataset}/{arm}/fallbacks.parquet",
    "token_report": "fuse/{dataset}/{arm}/tokens.parquet",
    "item_neighbours": "neighbours/{dataset}/{arm}/{modality}.parquet",
    "user_neighbours": "neighbours/{dataset}/users.parquet",
    "history": "train/{dataset}/{backbone}/{arm}/{seed}/history.parquet",
    "topk": "train/{dataset}/{backbone}/{arm}/{seed}/topk.parquet",
    "run": "train/{dataset}/{backbone}/{arm}/{seed}/run.json",
    "metrics": "evaluate/{dataset}/{backbone}/{arm}/{seed}/metrics.parquet",
    "user_metrics": "evaluate/{dataset}/{backbone}/{arm}/{seed}/user_metrics.parquet",
    "export": "export/{dataset}/{arm}",
    "table": "tabulate/{table}.{format}",
}


def locate(root: Path, result: str, **names: str | int) -> Path:
    """Path of one result of a run.

    >>> locate(Path("results/demo"), "items", dataset="shop").as_posix()
    'results/demo/catalogue/shop/items.parquet'
    """
    return root / PATHS[result].format(**names)
