"""The tables between the stages, one row each: who makes it, in which file, its key, columns and types.

Types are Arrow's, by name. The version goes into each file's metadata; raise it when a column changes its meaning.
"""

from __future__ import annotations

from typing import NamedTuple

I16, I32, I64, F32, F64 = "int16", "int32", "int64", "float", "double"
STR, BOOL, BYTES = "string", "bool", "binary"
PATHS = "category paths"  # list<list<string>>: outer list the paths, inner list the levels
VECTOR = "vector"  # fixed_size_list<float>[D]; D is the file's own


class Table(NamedTuple):
    """Shape of one table, and where it comes from."""

    maker: str  # the stage
    file: str  # in the folder of the maker's job
    key: tuple[str, ...]
    columns: dict[str, str]
    nullable: frozenset[str] = frozenset()
    version: int = 1


def _interactions(file: str) -> Table:
    return Table(
        maker="catalogue",
        file=file,
        key=("user", "item"),
        columns={
            "user": I32,
            "item": I32,
            "timestamp": I64,  # seconds since 1970
        },
        nullable=frozenset({"timestamp"}),
    )


IMAGE_STATUSES = (
    "ok",
    "no_url",  # the metadata has no image URL
    "placeholder",  # the URL is the shop's known "no image" picture
    "no_file",  # the dataset's image_folder has no file for the item
    "http_error",  # the answer's HTTP status is not 200
    "timeout",
    "connection_error",
    "given_up",  # no request: the host failed `give_up_after` times in a row
    "refused",  # private address, scheme or opt-out: not fetched, or not kept, on purpose
    "too_large",  # more bytes or pixels than the config allows
    "too_small",  # fewer pixels a side than the config allows
    "not_an_image",
    "truncated",
    "undecodable",  # its decoding takes too many scans or too much CPU time, or ends the decoder
)

EMBEDDING_STATUSES = (
    "ok",
    "no_image",  # crawl has none; its table says why
    "undecodable",  # crawl has one, but its bytes cannot be decoded
)

# What Pillow says of a picture; the orientation is EXIF's, from 1 (upright) to 8
_PICTURE = {"format": STR, "mode": STR, "is_animated": BOOL, "orientation": I16}

_TRIAL = {
    "trial": I32,  # its number in the list of trials, from 0
    "settings": STR,  # flat keys and values as JSON
    "rung": I16,  # the last in which it trained, from 0
    "epochs": I32,
    "best_epoch": I32,
    "valid_recall@20": F64,  # of the best epoch
    "status": STR,  # ok, or failed: loss or embeddings were not finite
    "detail": STR,  # why it failed
}
_UNKNOWN_IF_FAILED = frozenset({"epochs", "best_epoch", "valid_recall@20", "detail"})


def _history(maker: str) -> Table:
    return Table(
        maker=maker,
        file="history.parquet",
        key=("epoch",),
        columns={"epoch": I32, "loss": F64, "seconds": F64, "valid_recall@20": F64},
    )


def _topk(maker: str) -> Table:
    return Table(
        maker=maker,
        file="topk.parquet",
        key=("user", "rank"),
        columns={"user": I32, "rank": I16, "item": I32, "score": F32},
    )


TABLES: dict[str, Table] = {
    "train": _interactions("train.parquet"),
    "valid": _interactions("valid.parquet"),
    "test": _interactions("test.parquet"),
    "users": Table(maker="catalogue", file="users.parquet", key=("user",), columns={"user": I32, "user_id": STR}),
    "items": Table(
        maker="catalogue",
        file="items.parquet",
        key=("item",),
        columns={
            "item": I32,
            "asin": STR,
            "title": STR,
            "brand": STR,
            "categories": PATHS,
            "description": STR,
            "image_url": STR,
        },
        nullable=frozenset({"asin", "title", "brand", "categories", "description", "image_url"}),
    ),
    "counts": Table(
        maker="catalogue",
        file="counts.parquet",
        key=("order",),
        columns={
            "order": I16,
            "step": STR,  # raw or given, what was dropped, each round of the k-core, train, valid, test
            "interactions": I64,  # left after the step
            "users": I64,
            "items": I64,
            "density": F64,  # interactions / (users x items)
            "cold_users": I64,  # of valid and test: those with no interaction in train
            "cold_items": I64,
        },
        nullable=frozenset({"cold_users", "cold_items"}),
        version=2,
    ),
    "images": Table(
        maker="crawl",
        file="images.parquet",
        key=("item",),
        columns={
            "item": I32,
            "status": STR,
            "http_code": I16,
            "shard": STR,
            "row": I32,
            "sha256": STR,
            "width": I32,  # px
            "height": I32,  # px
            "detail": STR,
            **_PICTURE,
        },
        nullable=frozenset({"http_code", "shard", "row", "sha256", "width", "height", "detail", *_PICTURE}),
        version=2,
    ),
    "image_shard": Table(
        maker="crawl",
        file="shards/{shard}",
        key=("row",),
        columns={
            "row": I32,
            "url": STR,
            "final_url": STR,  # the URL after redirects
            "status": STR,
            "http_code": I16,
            "sha256": STR,
            "width": I32,
            "height": I32,
            "detail": STR,
            **_PICTURE,
            "bytes": BYTES,  # as the server sent them
        },
        nullable=frozenset({"final_url", "http_code", "sha256", "width", "height", "detail", "bytes", *_PICTURE}),
        version=2,
    ),
    "prompts": Table(
        maker="prompt",
        file="prompts.parquet",
        key=("item", "view"),
        columns={"item": I32, "view": STR, "text": STR, "is_missing": BOOL},
    ),
    "cleaning": Table(
        maker="prompt",
        file="cleaning.parquet",
        key=("view", "field", "order"),
        columns={
            "view": STR,  # the view that has the field; a joined view lists the views that it joins
            "field": STR,
            "order": I16,
            "step": STR,  # reading (null in the metadata), the steps of `clean`, min_length
            "n_changed": I32,
            "n_emptied": I32,  # nothing was left, so the value is missing after this step
        },
    ),
    "text_embeddings": Table(
        maker="encode-text",
        file="{range}-of-{ranges}.parquet",
        key=("item", "view"),
        columns={
            "item": I32,
            "view": STR,
            "text_sha256": STR,
            "embedding": VECTOR,
            "n_tokens": I32,
            "n_chunks": I32,
            "truncated": BOOL,
            "is_missing": BOOL,  # the field was missing; the text says so
        },
        version=2,
    ),
    "token_report": Table(
        maker="fuse",
        file="tokens.parquet",
        key=("view",),
        columns={
            "view": STR,
            "n_items": I32,
            "n_distinct": I32,  # texts
            "min_tokens": I32,  # of an item's text, with the marks of start and end
            "median_tokens": F64,
            "max_tokens": I32,
            "n_truncated": I32,  # items whose text was not read to its end
            "n_chunked": I32,  # items whose text was encoded in slices
        },
    ),
    "vectors": Table(
        maker="encode-text",
        file="{content}.parquet",
        key=("sha256",),
        columns={
            "sha256": STR,  # of a text or of an image's bytes
            "embedding": VECTOR,
        },
    ),
    "image_embeddings": Table(
        maker="encode-image",
        file="{range}-of-{ranges}.parquet",
        key=("item",),
        columns={
            "item": I32,
            "status": STR,
            "embedding": VECTOR,  # null unless the status is ok
        },
        nullable=frozenset({"embedding"}),
        version=2,
    ),
    "default_image": Table(
        maker="encode-default-image",
        file="default_image.parquet",
        key=("item",),
        columns={
            "item": I32,  # -1 in the only row: it belongs to no item
            "embedding": VECTOR,
        },
    ),
    "features": Table(
        maker="fuse",
        file="features.parquet",
        key=("item",),
        columns={
            "item": I32,
            "image": VECTOR,
            "text": VECTOR,
            "image_is_filled": BOOL,  # no image of its own: stays out of item graphs
            "text_is_filled": BOOL,  # no field of its own: stays out of item graphs
        },
    ),
    "view_weights": Table(
        maker="fuse",
        file="view_weights.parquet",
        key=("item", "view"),
        columns={
            "item": I32,
            "view": STR,
            "similarity": F32,  # null: image and text lie in different spaces
            "weight": F32,  # sums to 1 over an item's views; all 0 if all of them are masked
            "rank": I16,  # 1: closest to the item's own image; null: no such image, no similarity, or masked
        },
        nullable=frozenset({"similarity", "rank"}),
        version=2,
    ),
    "fallbacks": Table(
        maker="fuse",
        file="fallbacks.parquet",
        key=("missing",),
        columns={
            "missing": STR,  # "cover image", "every view", or a view whose fields are all missing
            "policy": STR,  # missing_image or missing_field of the arm; "as given" for given features
            "n_items": I32,
        },
    ),
    "item_neighbours": Table(
        maker="neighbours-items",
        file="{modality}.parquet",
        key=("item", "rank"),
        columns={
            "item": I32,
            "rank": I16,  # from 1; 0: the item has no neighbour
            "neighbour": I32,  # -1: none
            "similarity": F32,
        },
    ),
    "user_neighbours": Table(
        maker="neighbours-users",
        file="users.parquet",
        key=("user", "rank"),
        columns={"user": I32, "rank": I16, "neighbour": I32, "n_shared": F32},
    ),
    "history": _history("train"),
    "topk": _topk("train"),
    "trial": Table(
        maker="trial",
        file="trial.parquet",
        key=("trial",),  # one row
        columns=_TRIAL,
        nullable=_UNKNOWN_IF_FAILED,
    ),
    "trial_history": _history("trial"),
    "trial_topk": _topk("trial"),
    "trials": Table(
        maker="select",
        file="trials.parquet",
        key=("trial",),
        columns={**_TRIAL, "is_chosen": BOOL},
        nullable=_UNKNOWN_IF_FAILED,
    ),
    "hindsight": Table(
        maker="hindsight",
        file="hindsight.parquet",
        key=("trial",),
        columns={"trial": I32, "test_recall@20": F64},
    ),
    "user_metrics": Table(
        maker="evaluate",
        file="user_metrics.parquet",
        key=("user", "metric", "k"),
        columns={"user": I32, "metric": STR, "k": I32, "value": F64},
    ),
    "metrics": Table(
        maker="evaluate",
        file="metrics.parquet",
        key=("dataset", "backbone", "arm", "seed", "split", "metric", "k"),
        columns={
            "dataset": STR,
            "backbone": STR,
            "arm": STR,
            "seed": I64,
            "split": STR,
            "metric": STR,
            "k": I32,
            "value": F64,
            "n_users": I32,
        },
    ),
    "comparison": Table(
        maker="compare",
        file="comparison.parquet",
        key=("metric", "k"),
        columns={
            "metric": STR,
            "k": I32,
            "n_users": I32,
            "n_runs": I32,  # of each arm: seeds, and seeds on other splits
            "mean": F64,  # over users and seeds of the dataset's own split, as all that compares users
            "base_mean": F64,
            "sd": F64,  # over all runs, with n - 1; null for one run
            "base_sd": F64,
            "difference": F64,  # mean - base_mean
            "low": F64,  # 95 % BCa interval of the difference; users are resampled in pairs
            "high": F64,
            "gain": F64,  # difference / base_mean; null where that is 0
            "gain_low": F64,
            "gain_high": F64,
            "d_z": F64,  # difference / user_sd
            "d_z_low": F64,
            "d_z_high": F64,
            "user_sd": F64,  # over users, of the difference
            "p": F64,  # paired t-test of users' means over seeds
            "p_randomised": F64,  # randomisation test of the same
            "band": F64,  # how far means of n runs differ by seed and split alone; null for one run
            "p_better": F64,  # P(A > B): share of runs that beat the base's; ties count half
        },
        nullable=frozenset(
            {"sd", "base_sd", "low", "high", "gain", "gain_low", "gain_high", "d_z", "d_z_low", "d_z_high"}
            | {"p", "p_randomised", "band", "user_sd"}
        ),
    ),
}
