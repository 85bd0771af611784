# Reads and checks the config; names that the rules are made of. No logic of the stages.
import os
import re
import sys
from itertools import takewhile
from pathlib import Path

from snakemake.exceptions import WorkflowError

from cliper import config as configuration
from cliper.codeid import code_id
from cliper.errors import CliperError
from cliper.layout import PATHS

try:
    CONFIG = configuration.structure(config, where="config")
except CliperError as error:
    raise WorkflowError(str(error)) from None

RUN = CONFIG.run
ROOT = CONFIG.root.as_posix()
RESOLVED = f"{ROOT}/config.resolved.yaml"
CELL = ("dataset", "backbone", "arm", "seed")
# Features that are made here, at least the text: not those that come with a dataset.
MADE = [
    (dataset, arm)
    for dataset in RUN.datasets
    for arm in RUN.arms
    if CONFIG.arm_of(dataset, arm).text
]
CRAWLED = sorted(
    {dataset for dataset, arm in MADE if CONFIG.arm_of(dataset, arm).image}
)
ENCODERS = sorted(
    {
        name
        for dataset, arm in MADE
        for name in (CONFIG.arm_of(dataset, arm).image, CONFIG.arms[arm].text)
        if name
    }
)
PROMPTS = sorted(
    {
        (dataset, CONFIG.arms[arm].prompts, view)
        for dataset, arm in MADE
        for view in CONFIG.views_of(CONFIG.arms[arm])
    }
)
FILES = sorted(
    {f for d in RUN.datasets for f in CONFIG.datasets[d].raw_files(RUN.arms)}
)
# Where vectors are kept decides none of them, nor does the range that an item is in, which stands in the file's name.
ENCODE = {
    key: value
    for key, value in configuration.plain(CONFIG.encode).items()
    if key not in ("store", "shards")
}
SHARDS = CONFIG.encode.shards
GPUS = {
    "encode": int(CONFIG.encode.device == "cuda"),
    "train": int(CONFIG.train.device == "cuda"),
}
ENVIRONMENT = {
    stage: f"../../envs/{'gpu' if gpus else 'cpu'}.yaml" for stage, gpus in GPUS.items()
}

# The jobs' `python` is the one that runs Snakemake; an activated conda environment still comes first.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
)


def one_of(names):
    """Pattern that matches these names alone; of no names, nothing."""
    return "|".join(re.escape(str(name)) for name in names) or "(?!)"


wildcard_constraints:
    dataset=one_of(RUN.datasets),
    backbone=one_of(RUN.backbones),
    arm=one_of((*RUN.arms, configuration.CONTENT_FREE)),
    seed=one_of(RUN.seeds),
    encoder=one_of(ENCODERS),
    prompts=one_of(sorted({prompts for _, prompts, _ in PROMPTS})),
    view=one_of(sorted({view for _, _, view in PROMPTS})),
    file=one_of(FILES),
    shard=one_of(range(SHARDS)),
    table="table1|table2",
    modality="image|text",
    format="csv|md|tex",


# The stages read the merged config from here. It is no rule's input: its time stamp would re-run everything.
onstart:
    configuration.write(CONFIG, Path(RESOLVED))


def path(result):
    """Pattern of one result, for rules."""
    return f"{ROOT}/{PATHS[result]}"


def log_of(stage, names):
    return f"{ROOT}/logs/{stage}/{names}.log"


def benchmark_of(stage, names):
    return f"{ROOT}/benchmarks/{stage}/{names}.tsv"


def raw_files(dataset, names):
    """Some raw files of a dataset."""
    return expand(path("raw"), dataset=dataset, file=names)


def cut_by(dataset):
    """What decides a dataset's users, items and splits besides its raw files."""
    settings = CONFIG.datasets[dataset]
    return [
        settings.min_rating,
        settings.k_core,
        settings.split,
        settings.split_seed,
        getattr(settings.source, "columns", None),
    ]


def own_file(dataset, file):
    """A raw file in the first folder that has it, as it may change; [] where it is fetched from a URL.

    Once taken it stays an input, though its folder may be gone: Snakemake then keeps what was taken.
    """
    mirrors = CONFIG.datasets[dataset].source.mirrors or ()
    folders = takewhile(lambda mirror: not configuration.is_url(mirror), mirrors)
    paths = [Path(folder).expanduser() / file for folder in folders]
    is_taken = Path(path("raw").format(dataset=dataset, file=file)).is_file()
    found = [own for own in paths if own.is_file()] or (paths if is_taken else [])
    return [str(own) for own in found[:1]]


def own_images(dataset):
    """The folder of a dataset's own images, which is newer when files come or go; [] where they are fetched."""
    folder = CONFIG.datasets[dataset].image_folder
    return str(Path(folder).expanduser()) if folder else []


def texts_of(dataset, arm):
    """What an arm's text features are made of: the ranges of its views in the order of its set, or the given file."""
    if (given := CONFIG.datasets[dataset].given(arm)) and given.text:
        return raw_files(dataset, given.text)
    arm = CONFIG.arms[arm]
    return expand(
        path("text_embeddings"),
        dataset=dataset,
        encoder=arm.text,
        prompts=arm.prompts,
        view=CONFIG.views_of(arm),
        shard=range(SHARDS),
        shards=SHARDS,
    )


def images_of(dataset, arm):
    """What an arm's image features are made of: the ranges of its image embeddings, or the given file."""
    if given := CONFIG.datasets[dataset].given(arm):
        return raw_files(dataset, given.image)
    return expand(
        path("image_embeddings"),
        dataset=dataset,
        encoder=CONFIG.arms[arm].image,
        shard=range(SHARDS),
        shards=SHARDS,
    )


def items_of(dataset, arm):
    """The items whose numbers or ids given features belong to."""
    is_given = CONFIG.datasets[dataset].given(arm)
    return expand(path("items"), dataset=dataset) if is_given else []


def default_image_of(dataset, arm):
    """The picture that stands for missing ones, where the arm asks for it."""
    arm = CONFIG.arm_of(dataset, arm)
    is_asked = arm.missing_image == "default_image"
    return expand(path("default_image"), encoder=arm.image) if is_asked else []


def made_by(dataset, arm):
    """How an arm's features are made: all of the arm but d; the order of its views is in no file's name."""
    settings = configuration.plain(CONFIG.arm_of(dataset, arm))
    return {key: value for key, value in settings.items() if key != "d"}


def templates(prompts, view):
    """Templates that decide a view's text: its own and those of the views it joins."""
    views = CONFIG.prompt_set(prompts)
    parts = [
        part
        for name in getattr(views[view], "views", ())
        for part in templates(prompts, name)
    ]
    return [configuration.plain(views[view]), *parts]


def features_of(wildcards):
    """Features that a cell trains on; none for backbones without features."""
    if wildcards.arm == configuration.CONTENT_FREE:
        return []
    return path("features").format(dataset=wildcards.dataset, arm=wildcards.arm)


def graphs_of_cell(dataset, backbone, arm):
    """Neighbours that a cell's backbone reads."""
    found = []
    if backbone in configuration.ITEM_GRAPH_BACKBONES:
        found += expand(
            path("item_neighbours"),
            dataset=dataset,
            arm=arm,
            modality=["image", "text"],
        )
    if backbone in configuration.USER_GRAPH_BACKBONES:
        found += expand(path("user_neighbours"), dataset=dataset)
    return found


def table_of(rows, *names):
    """Rows of names as keyword arguments for expand(…, zip)."""
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}
