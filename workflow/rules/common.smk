# Reads and checks the config; defines names that the rules use. No logic of the stages.
#
# Every job has a folder, its `place`. Runs that share a job's results must have the same params. So the names of the job
# are no params: a stage finds them by the place. Neither is the config's path: it is a resource.
import os
import re
import sys
from functools import partial
from itertools import takewhile
from pathlib import Path

from snakemake.exceptions import WorkflowError

from cliper import config as configuration
from cliper.codeid import code_id
from cliper.config import GivenFeatures, MadeFeatures, is_url
from cliper.config.decides import BUILDERS, Ranks, Study, deciding
from cliper.errors import CliperError
from cliper.layout import DRAWN, FILES, FORMATS, TEMPORARY, Layout
from cliper.media import terminal
from cliper.stages import STAGES

try:
    for path in workflow.configfiles:
        # Snakemake takes the last of repeated keys
        configuration.read(Path(path))
    CONFIG = configuration.structure(config, where="config")
except CliperError as error:
    raise WorkflowError(terminal(str(error))) from None

RUN = CONFIG.run
LAYOUT = Layout(CONFIG)
RUN_CELLS = CONFIG.run_cells
RESOLVED = f"{LAYOUT.root.as_posix()}/config.resolved.yaml"
RANGES = CONFIG.encode.ranges
JOBS, RAW = {
    stage: {} for stage in STAGES
}, []  # place -> names; raw files share the place of their dataset
for stage, names in LAYOUT.jobs():
    JOBS[stage][LAYOUT.place(stage, **names)] = names
    RAW += [names] if stage == "download" else []
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

# The lines of the jobs would run through the bars that this logger draws on a terminal; they are in the logs.
if "rich" in workflow.output_settings.log_handler_settings and sys.stderr.isatty():
    shell.suffix(" > /dev/null")


def one_of(names):
    """Pattern that matches these names alone; of no names, nothing."""
    return "|".join(re.escape(str(name)) for name in names) or "(?!)"


def places(stage):
    """Pattern of the places of a stage's jobs; cells are many, so theirs says the form alone."""
    if STAGES[stage].shared:
        return one_of(JOBS[stage])
    return re.sub(r"\{\w+\}", "[^/]+", STAGES[stage].folder)


def names_of(stage, place):
    """Names of the job in a place."""
    if place not in JOBS[stage]:
        raise WorkflowError(f"this config has no job of {stage} in {place}")
    return JOBS[stage][place]


wildcard_constraints:
    file=one_of({names["file"] for names in RAW}),
    range=one_of(range(RANGES)),
    table=one_of(LAYOUT.tables),
    figure=one_of(LAYOUT.figures),


# The stages read the merged config from here. It is no rule's input: its time stamp would re-run everything.
def write_config():
    configuration.write(config, Path(RESOLVED))


# Snakemake runs no `onstart` of a module. And the machine of a job may have no folder in common with this one.
needs_config = (
    not workflow.modifier.is_main_snakefile()
    if workflow.is_main_process
    else not Path(RESOLVED).is_file()
)
if needs_config and not workflow.output_settings.dryrun:
    write_config()


onstart:
    write_config()


def outputs(stage):
    """Patterns of what a stage's job writes, by the names of the results (`items` is Snakemake's own word)."""
    found = {
        name.replace("items", "item_table"): file.replace("{ranges}", str(RANGES))
        for name, (maker, file) in FILES.items()
        if maker == stage and "{shard}" not in file and "{content}" not in file
    }
    home = LAYOUT.home(stage).as_posix()
    paths = {
        name: expand(
            f"{home}/{{place}}/{file}", modality=["image", "text"], allow_missing=True
        )
        for name, file in found.items()
    }
    return {
        name: temp(each) if name in TEMPORARY else each for name, each in paths.items()
    }


def log_of(stage, *more):
    return LAYOUT.log(stage, "{place}", *more).as_posix()


def benchmark_of(stage, *more):
    return LAYOUT.benchmark(stage, "{place}", *more).as_posix()


def of(stage, find):
    """Input function: what `find` returns for the names of a job."""
    return lambda w: find(**names_of(stage, w.place))


def decides(stage):
    """Param: all settings that decide a job's results."""
    return lambda w: deciding(BUILDERS[stage](CONFIG, **names_of(stage, w.place)))


def code(stage):
    """Param: the id of the code that decides a job's results."""

    def find(dataset=None, encoder=None, backbone=None, **_):
        if backbone:
            return code_id(stage, CONFIG.backbone(backbone).place)
        if encoder:
            return code_id(stage, CONFIG.encoder(encoder).place)
        if stage == "catalogue":
            return code_id(stage, CONFIG.dataset(dataset).source.place)
        return code_id(stage)

    return of(stage, find)


def result(name, **names):
    """Path of one result."""
    return LAYOUT.path(name, **names).as_posix()


def raw_files(dataset, files=None, **_):
    """Some raw files of a dataset; by default, those that its catalogue is made of."""
    files = files or CONFIG.dataset(dataset).source.settings.files.values()
    return [result("raw", dataset=dataset, file=file) for file in files]


def own_file(w):
    """The raw file in the first local folder that has it, since it may change; [] if it is fetched from a URL.

    Once copied, it stays an input even if its folder is gone: Snakemake then keeps the copy.
    """
    dataset = names_of("download", w.place)["dataset"]
    mirrors = CONFIG.dataset(dataset).source.settings.mirrors or ()
    folders = takewhile(lambda mirror: not is_url(mirror), mirrors)
    paths = [Path(folder).expanduser() / w.file for folder in folders]
    is_taken = Path(result("raw", dataset=dataset, file=w.file)).is_file()
    found = [own for own in paths if own.is_file()] or (paths if is_taken else [])
    return [str(own) for own in found[:1]]


def own_weights(encoder):
    """The file or folder that an encoder's weights are made of, as it may change; [] where there is none here."""
    origin = CONFIG.encoder(encoder).settings.origin
    if origin is None or is_url(origin):
        return []
    own, is_made = (
        Path(origin).expanduser(),
        Path(result("weights", encoder=encoder)).is_file(),
    )
    return [str(own)] if own.exists() or is_made else []


def own_images(dataset):
    """The folders of a dataset's own images; their times change when files are added or removed. [] if they are fetched."""
    if not (name := CONFIG.dataset(dataset).image_folder):
        return []
    folder = Path(name).expanduser()
    return sorted(where for where, _, _ in os.walk(folder)) or [str(folder)]


def ranges_of(name, **names):
    """All ranges of the embeddings of a view, or of images."""
    return [result(name, range=n, ranges=RANGES, **names) for n in range(RANGES)]


def image_of(dataset, arm):
    """What an arm's image features are made of: the ranges of its image embeddings, or the given file."""
    made = CONFIG.features(dataset, arm)
    if isinstance(made, GivenFeatures):
        return raw_files(dataset, [made.image])
    if made.given:
        return raw_files(dataset, [made.given])
    return ranges_of("image_embeddings", dataset=dataset, encoder=made.image)


def text_of(dataset, arm):
    """What an arm's text features are made of: the ranges of its views in their order, or the given file."""
    made = CONFIG.features(dataset, arm)
    if isinstance(made, GivenFeatures):
        return raw_files(dataset, [made.text])
    names = {"dataset": dataset, "encoder": made.text, "prompts": made.prompts}
    return [
        path
        for view in made.views
        for path in ranges_of("text_embeddings", view=view, **names)
    ]


def items_of(dataset, arm):
    """The items whose numbers or ids given features belong to."""
    made = CONFIG.features(dataset, arm)
    is_given = isinstance(made, GivenFeatures) or made.given
    return [result("items", dataset=dataset)] if is_given else []


def default_image_of(dataset, arm):
    """The picture that replaces missing ones, if the arm asks for it."""
    made = CONFIG.features(dataset, arm)
    is_asked = getattr(made, "missing_image", None) == "default_image"
    return [result("default_image", encoder=made.image)] if is_asked else []


def features_of(dataset, backbone, arm, **_):
    """Features that a cell trains on; none for backbones without features."""
    uses_features = CONFIG.backbone(backbone).settings.uses_features
    return [result("features", dataset=dataset, arm=arm)] if uses_features else []


def graphs_of(dataset, backbone, arm, **_):
    """Neighbours that a cell's backbone reads."""
    settings, found = CONFIG.backbone(backbone).settings, []
    if settings.uses_item_graph:
        find = partial(result, "item_neighbours", dataset=dataset, arm=arm)
        found += [find(modality="image"), find(modality="text")]
    if settings.uses_user_graph:
        found.append(result("user_neighbours", dataset=dataset))
    return found


def every(stage, name):
    """One result of each of a stage's jobs."""
    return [result(name, **names) for names in JOBS[stage].values()]


def prompts_of(dataset, prompts, view, **_):
    return result("prompts", dataset=dataset, prompts=prompts, view=view)


def weights_of(encoder, **_):
    return result("weights", encoder=encoder)


def images_of(dataset, **_):
    return result("images", dataset=dataset)


def of_dataset(*names):
    """Tables of a job's dataset."""
    return lambda dataset, **_: [result(name, dataset=dataset) for name in names]


def of_slots(*kinds):
    """Results of all slots of a search, which may say the rungs that are meant."""

    def find(rungs=None, **names):
        return [
            result(kind, rung=rung, slot=slot, **names)
            for rung, slot in CONFIG.slots(**names)
            if rungs is None or rung in rungs
            for kind in kinds
        ]

    return find


def before_of(rung, slot, **names):
    """What a slot of a search may continue: results and states of the rung before."""
    return of_slots("trial", "trial_state")(rungs=[rung - 1], **names)


def selected_of(dataset, backbone, arm, **_):
    """The settings that a search has chosen for a cell."""
    chosen = CONFIG.searched(dataset, backbone, arm)
    names = {"dataset": chosen.dataset, "arm": chosen.arm} if chosen else {}
    return [result("selected", backbone=backbone, **names)] if chosen else []


def topk_of(**names):
    return result("topk", **names)


def of_cells(name, cells):
    """One result of each of some cells."""
    return [result(name, **cell._asdict()) for cell in cells]


def compared(**names):
    """User metrics of all runs of the two arms."""
    job = BUILDERS["compare"](CONFIG, **names)
    return of_cells("user_metrics", job.runs + job.base_runs)


def comparisons_of(job):
    return [result("comparison", **each._asdict()) for each in job.comparisons]


def numbers_of(w):
    """What a table is made of: the counts of the datasets, or the metrics of cells and their comparisons."""
    job = BUILDERS["tabulate"](CONFIG, table=w.table)
    if w.table == "table1":
        return [result("counts", dataset=dataset) for dataset in RUN.datasets]
    if w.table == "search":
        return every("select", "trials") + every("hindsight", "hindsight")
    read = of_cells("metrics", job.cells) + comparisons_of(job)
    if isinstance(job, Study):
        return read
    return read + [result("test", dataset=dataset) for dataset in job.titles]


def drawn_of(w):
    """What a figure is made of."""
    job = BUILDERS["plot"](CONFIG, figure=w.figure)
    if isinstance(job, Study):
        return [result("table", table=job.name, format="csv")]
    if isinstance(job, Ranks):
        weights = [
            result("view_weights", dataset=dataset, arm=arm)
            for dataset, arm in job.weighted
        ]
        return weights + of_cells("metrics", job.cells)
    if job.figure == "curves":
        return of_cells("history", job.cells)
    splits = [
        result(name, dataset=dataset)
        for dataset in job.titles
        for name in ("train", "test", "items", *["valid"] * job.mask_valid)
    ]
    return of_cells("topk", job.cells) + splits


def explored_of(dataset):
    """What is shown of a dataset: its items and users, what the arms were made of, and the lists of one seed."""
    job = BUILDERS["explore"](CONFIG, dataset=dataset)
    made = {
        arm: each for arm, each in job.arms.items() if isinstance(each, MadeFeatures)
    }
    texts = {
        (each.text, each.prompts, view): None
        for each in made.values()
        for view in each.views
    }
    found = [
        result(name, dataset=dataset)
        for name in ("items", "users", "train", "test", *["images"] * job.is_crawled)
    ]
    for arm in job.arms:
        found.append(result("features", dataset=dataset, arm=arm))
    for arm in made:
        found.append(result("view_weights", dataset=dataset, arm=arm))
    for encoder, prompts, view in texts:
        names = {"dataset": dataset, "prompts": prompts, "view": view}
        found += [
            result("prompts", **names),
            *ranges_of("text_embeddings", encoder=encoder, **names),
        ]
    found += [result("weights", encoder=encoder) for encoder in job.encoders]
    return list(dict.fromkeys(found + of_cells("topk", job.cells)))


def reported_of(_):
    """What the page is made of, all that it shows of the run."""
    cells = (
        of_cells("metrics", RUN_CELLS)
        + of_cells("history", RUN_CELLS)
        + of_cells("run", RUN_CELLS)
    )
    shown = [path for name in LAYOUT.tables for path in tables_of(name)]
    shown += [path for name in LAYOUT.figures for path in figures_of(name)]
    return shown + cells + every("explore", "explored")


def tables_of(name):
    """A table in all its forms, if the run has one of this name."""
    if name not in LAYOUT.tables:
        return []
    return [result("table", table=name, format=form) for form in FORMATS]


def figures_of(name):
    """A figure in all its forms, if the run has one of this name."""
    if name not in LAYOUT.figures:
        return []
    return [result("figure", figure=name, format=form) for form in DRAWN]
