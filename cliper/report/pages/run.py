"""What was run, and on what: the arms, and for each dataset its size, pictures, texts and missing values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from cliper import files
from cliper.config import CONTENT_FREE, GivenFeatures, MadeFeatures, decides
from cliper.layout import At
from cliper.report.pages import datacard
from cliper.report.pages.inputs import read_weights, table2_of
from cliper.report.pages.rendering import Section
from cliper.report.pages.words import arm_title, plural

FUSIONS = {  # of several views
    "sa": "The closer a text lies to the picture, the more it weighs (τ = {temperature:g}); their weighed sum is used.",
    "sum": "The texts are added up.",
    "concat": "The texts are put side by side.",
    "mean": "The texts are averaged.",
    "mean_as_released": "The first three texts are averaged, as the released code does.",
    "mlp": "The texts are put side by side and pass a layer that is trained with the backbone.",
    "mlp_frozen": "The texts, put side by side, pass a random layer that nothing trains, as the released code does.",
}
CONTROLS = {
    "shuffled_images": "A control: each item has the picture of another one.",
    "noise": "A control: all features are noise of the same size.",
    "text_only": "A control: the image features are zeros.",
    "image_only": "A control: the text features are zeros.",
}


def section(job: decides.Page, at: At) -> Section:
    """The run in numbers, a card for each arm, a card for each dataset."""
    table, weights = table2_of(job), read_weights(job, at)
    values = {
        "totals": totals(job),
        "arms": [arm_card(arm, job.arms[arm], made, job.titles, weights) for arm, made in table.features.items()],
        "plain_backbones": [
            job.backbones[name] for name in dict.fromkeys(c.backbone for c in job.cells if c.arm == CONTENT_FREE)
        ],
        "stand_ins": table.stand_ins,
        "datasets": [dataset_card(job, at, dataset, weights) for dataset in job.titles],
    }
    return Section("run", "What was run, and on what", values)


def totals(job: decides.Page) -> list[tuple[str, str, str]]:
    """The run in numbers: number, what it counts, which."""
    n_seeds, n_splits = len({cell.seed for cell in job.cells}), max(job.n_splits.values())
    return [
        (f"{len(job.titles)}", plural("dataset", len(job.titles)), ", ".join(job.titles.values())),
        (f"{len(job.arms)}", plural("arm", len(job.arms)), ", ".join(map(arm_title, job.arms))),
        (f"{len(job.backbones)}", plural("backbone", len(job.backbones)), ", ".join(job.backbones.values())),
        (f"{n_seeds}", plural("seed", n_seeds), f"on {n_splits} splits" if n_splits > 1 else "on one split"),
        (f"{len(job.cells)}", plural("training run", len(job.cells)), "dataset × backbone × arm × seed"),
    ]


def arm_card(
    arm: str,
    d: int,
    features: Mapping[str, MadeFeatures | GivenFeatures],
    titles: Mapping[str, str],
    weights: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """An arm in plain sentences, and its settings.

    features  dataset -> how its features were made; datasets with equal features share a sentence
    """
    alike = dict[MadeFeatures | GivenFeatures, list[str]]()
    for dataset, made in features.items():
        alike.setdefault(made, []).append(titles[dataset])
    sentences = [
        (f"On {', '.join(on)}: " if len(alike) > 1 else "") + describe_features(made, weights)
        for made, on in alike.items()
    ]
    facts = [fact for made in alike if isinstance(made, MadeFeatures) for fact in settings(made)]
    return {"title": arm_title(arm), "sentences": sentences, "facts": list(dict.fromkeys(facts)), "d": d}


def describe_features(made: MadeFeatures | GivenFeatures, weights: Mapping[str, Mapping[str, Any]]) -> str:
    """How features were made, in plain sentences."""
    if isinstance(made, GivenFeatures):
        return "Image and text features came with the data and are used as they are."
    text = encoder_words(made.text, weights)
    if made.image is None:
        read = f"Image features came with the data; {text} reads the texts."
    elif made.image == made.text:
        read = f"{text} reads both pictures and texts."
    else:
        read = f"{encoder_words(made.image, weights)} reads the pictures, {text} the texts."
    views = f"An item has {len(made.views)} texts: {', '.join(made.views)}."
    several = f"{views} {FUSIONS.get(made.fusion, f'They are fused by {made.fusion}.')}"
    one = f"An item has one text ({made.views[0]}), used as it is."
    fused = several.format(temperature=made.temperature) if len(made.views) > 1 else one
    return " ".join(filter(None, [read, fused, CONTROLS.get(made.control or "")]))


def encoder_words(name: str, weights: Mapping[str, Mapping[str, Any]]) -> str:
    """An encoder with what it is."""
    architecture = weights[name]["architecture"]
    return name if architecture == name else f"{name} ({architecture})"


def settings(made: MadeFeatures) -> list[tuple[str, str]]:
    """An arm's settings as the config names them."""
    found = [
        ("Image encoder", made.image or f"given ({made.given})"),
        ("Text encoder", made.text),
        ("Prompts", made.prompts),
        ("Views", ", ".join(made.views)),
        ("Fusion", made.fusion),
        ("Temperature τ", f"{made.temperature:g}" if made.temperature is not None else ""),
        ("Vectors", made.vectors),
        ("Missing field", made.missing_field),
        ("Missing picture", made.missing_image),
        ("Control", made.control or ""),
    ]
    return [(name, value) for name, value in found if value]


def dataset_card(job: decides.Page, at: At, dataset: str, weights: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """All that is shown of one dataset."""
    counts = files.read_table(at("counts", dataset=dataset), "counts")
    features = {arm: each[dataset] for arm, each in table2_of(job).features.items()}
    made = {arm: each for arm, each in features.items() if isinstance(each, MadeFeatures)}
    fallbacks = _read_of_arms("fallbacks", dataset, features, at)
    tokens = _read_of_arms("token_report", dataset, made, at)
    cleaned = dict.fromkeys((each.prompts, view) for each in made.values() for view in each.views)
    cleaning = [
        (prompts, files.read_table(at("cleaning", dataset=dataset, prompts=prompts, view=view), "cleaning"))
        for prompts, view in cleaned
    ]
    limits = {each.text: weights[each.text]["context"] for each in made.values()}
    n_items = files.count_rows(at("items", dataset=dataset), "items")
    images = files.read_table(at("images", dataset=dataset), "images") if dataset in job.crawled else None
    return {
        "title": job.titles[dataset],
        "filtered": datacard.in_words(job.catalogues[dataset]),
        "n_splits": job.n_splits[dataset],
        "sizes": datacard.sizes(counts),
        "steps": datacard.steps_table(counts),
        "splits": datacard.splits_table(counts),
        "pictures": None if images is None else datacard.pictures(images),
        "has_features": bool(features),
        "given": [arm_title(arm) for arm in features if arm not in made],
        "tokens": datacard.tokens_table(tokens, limits) if tokens else None,
        "missing": datacard.missing_table(fallbacks, n_items) if fallbacks else None,
        "cleaning": datacard.cleaning_table(cleaning) if cleaning else None,
    }


def _read_of_arms(result: str, dataset: str, arms: Iterable[str], at: At) -> list[tuple[str, pl.DataFrame]]:
    """A table of each arm; arms that share features are named together."""
    named = dict[Path, list[str]]()
    for arm in arms:
        named.setdefault(at(result, dataset=dataset, arm=arm), []).append(arm_title(arm))
    return [(", ".join(titles), files.read_table(path, result)) for path, titles in named.items()]
