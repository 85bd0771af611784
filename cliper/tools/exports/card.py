"""The features card: how an arm's features were made, for those who get them without this project.

features_card.json has every setting that decides them, the weights with their hashes and licences, and what was
missing; features_card.md shows the same to a reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cliper import __version__, files
from cliper.config import Config, MadeFeatures, decides
from cliper.layout import At
from cliper.media import markdown

LICENCE = (
    "Features derive from the dataset's texts and images and from the encoders' weights; the terms of both hold for "
    "them. Ask the dataset's owner before you pass them on."
)


def write(folder: Path, config: Config, at: At) -> None:
    """Write both forms of an arm's card. Raises DataError if a result that it describes is missing."""
    card = describe(config, at)
    files.write_json(folder / "features_card.json", card)
    files.write_text(folder / "features_card.md", "\n".join(as_markdown(card)) + "\n")


def describe(config: Config, at: At) -> dict[str, Any]:
    """The card: what a reader needs to make the same features, or to know that theirs are others."""
    dataset, arm = at.names["dataset"], at.names["arm"]
    features = files.read_table(at("features"), "features")
    made = config.features(dataset, arm)
    sizes = {
        part: {"width": features[part].to_numpy().shape[1], "n_filled": int(features[f"{part}_is_filled"].sum())}
        for part in ("image", "text")
    }
    return {
        "dataset": dataset,
        "arm": arm,
        "made_by": f"cliper {__version__}",
        "sha256_of_table": files.sha256(at("features")),
        "n_items": features.height,
        "features": sizes,
        "fuse": decides.deciding(decides.of_fuse(config, dataset=dataset, arm=arm)),
        **(_encoded(config, at, made) if isinstance(made, MadeFeatures) else {"encoders": {}, "views": {}}),
        "missing": files.read_table(at("fallbacks"), "fallbacks").to_dicts(),
        "tokens": files.read_table(at("token_report"), "token_report").to_dicts(),
        "licence": LICENCE,
    }


def _encoded(config: Config, at: At, made: MadeFeatures) -> dict[str, Any]:
    """The encoders with their weights, and how each view and the images went through them."""
    dataset, of = at.names["dataset"], {"prompts": made.prompts, "encoder": made.text}
    views = {
        view: {
            "prompt": decides.deciding(decides.of_prompt(config, dataset=dataset, prompts=made.prompts, view=view)),
            "encode": decides.deciding(decides.of_encode_text(config, dataset=dataset, view=view, **of)),
        }
        for view in made.views
    }
    encoders = {
        name: files.read_json(at("weights", encoder=name), made_by=f"weights --encoder {name}")
        for name in made.encoders
    }
    image = made.image and decides.deciding(decides.of_encode_image(config, dataset=dataset, encoder=made.image))
    return {"encoders": encoders, "views": views, "images": image}


def as_markdown(card: dict[str, Any]) -> Iterator[str]:
    """The card as a page."""
    made, sizes = card["fuse"]["features"], card["features"]
    yield f"# Features of {markdown(card['dataset'])}, arm {markdown(card['arm'])}"
    yield ""
    yield f"{card['n_items']:,} items, made by {card['made_by']}; sha256 of the table {card['sha256_of_table']}."
    yield ""
    yield from _table(
        ["features", "width", "filled rows"],
        *([part, str(size["width"]), f"{size['n_filled']:,}"] for part, size in sizes.items()),
    )
    yield from _table(["setting", "value"], *([key, _said(value)] for key, value in made.items()))
    yield from _table(
        ["encoder", "architecture", "id of its weights", "licences"],
        *(
            [name, each["architecture"], each["id"], "; ".join(f"{k}: {v}" for k, v in each["licences"].items())]
            for name, each in card["encoders"].items()
        ),
    )
    yield from _table(
        ["view", "prompt", "texts beyond the context"],
        *(
            [view, each["prompt"]["views"][view]["prompt"], each["encode"]["overflow"]]
            for view, each in card["views"].items()
        ),
    )
    yield from _table(
        ["missing", "what replaces it", "items"],
        *([row["missing"], row["policy"], f"{row['n_items']:,}"] for row in card["missing"]),
    )
    yield card["licence"]


def _table(head: list[str], *rows: list[str]) -> Iterator[str]:
    """A table, unless it has no row, and an empty line."""
    if rows:
        for row in (head, ["---"] * len(head), *rows):
            yield "| " + " | ".join(cell if cell == "---" else markdown(cell) for cell in row) + " |"
        yield ""


def _said(value: Any) -> str:
    return "–" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
