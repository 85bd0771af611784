# Reads and checks the config; names that the rules are made of. No logic of the stages.
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from cliper import config as configuration
from cliper.errors import CliperError
from cliper.layout import PATHS
from cliper.stages import code_id

try:
    CONFIG = configuration.structure(config, where="config")
except CliperError as error:
    raise WorkflowError(str(error)) from None

RUN = CONFIG.run
ROOT = CONFIG.root.as_posix()
RESOLVED = f"{ROOT}/config.resolved.yaml"
CELL = ("dataset", "backbone", "arm", "seed")
ARMS = [CONFIG.arms[name] for name in RUN.arms]
ENCODERS = sorted({name for arm in ARMS for name in (arm.image, arm.text)})
PROMPT_SETS = sorted({arm.prompts for arm in ARMS})
PROMPTS = [
    (dataset, prompts, view)
    for dataset in RUN.datasets
    for prompts in PROMPT_SETS
    for view in CONFIG.prompt_set(prompts)
]
FILES = sorted(
    {f for d in RUN.datasets for f in CONFIG.datasets[d].source.files.values()}
)
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


wildcard_constraints:
    dataset="|".join(RUN.datasets),
    backbone="|".join(RUN.backbones),
    arm="|".join((*RUN.arms, configuration.CONTENT_FREE)),
    seed="|".join(map(str, RUN.seeds)),
    encoder="|".join(ENCODERS),
    prompts="|".join(PROMPT_SETS),
    view="|".join(sorted({view for _, _, view in PROMPTS})),
    file="|".join(name.replace(".", r"\.") for name in FILES),
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


def raw_files(dataset):
    """Raw files of a dataset."""
    return [
        path("raw").format(dataset=dataset, file=f)
        for f in CONFIG.datasets[dataset].source.files.values()
    ]


def view_texts(dataset, arm):
    """Text embeddings of an arm's views, in the order of its prompt set."""
    arm = CONFIG.arms[arm]
    return expand(
        path("text_embeddings"),
        dataset=dataset,
        encoder=arm.text,
        prompts=arm.prompts,
        view=CONFIG.prompt_set(arm.prompts),
    )


def image_table(dataset, arm):
    """Image embeddings of an arm."""
    return path("image_embeddings").format(
        dataset=dataset, encoder=CONFIG.arms[arm].image
    )


def embeddings_of(dataset, arm):
    """All tables that an arm's features are made of."""
    return [image_table(dataset, arm), *view_texts(dataset, arm)]


def templates(prompts, view):
    """Templates that decide a view's text: its own and those of the views it joins."""
    views = CONFIG.prompt_set(prompts)
    parts = [
        part for name in views[view].views or () for part in templates(prompts, name)
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
    return dict(zip(names, zip(*rows), strict=True))
