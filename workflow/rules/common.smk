# Reads and checks the config; defines names that the rules use. No logic of the stages.
#
# Every job has a folder, its `place`. Runs that share a job's results must have the same params. So the names of the job
# are no params: a stage finds them by the place. Neither is the config's path: it is a resource.
import os
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from cliper import config as configuration
from cliper.config.decides import TITLES
from cliper.errors import CliperError
from cliper.layout import FILES, TEMPORARY, Layout, Part
from cliper.line import MODALITIES, OPEN_NAMES, Line
from cliper.media import terminal
from cliper.stages import STAGES

try:
    for path in workflow.configfiles:
        # Snakemake takes the last of repeated keys
        configuration.read(Path(path))
    CONFIG = configuration.structure(config, where="config")
except CliperError as error:
    raise WorkflowError(terminal(str(error))) from None

LAYOUT = Layout(CONFIG)
LINE = Line(LAYOUT)
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


SHOWN = TITLES | {name: study.title for name, study in CONFIG.studies_of_run.items()}


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
        if maker == stage and not any(open_name in file for open_name in OPEN_NAMES)
    }
    home = LAYOUT.home(stage).as_posix()
    paths = {
        name: expand(
            f"{home}/{{place}}/{file}", modality=MODALITIES, allow_missing=True
        )
        for name, file in found.items()
    }
    return {
        name: temp(each) if name in TEMPORARY else each for name, each in paths.items()
    }


def forms_of(kind):
    """Patterns of a table or a figure in all its forms. Snakemake's report shows the first."""
    first, *others = LINE.forms_of(kind, f"{{{kind}}}")
    shown = report(
        first,
        category=f"{kind.title()}s",
        caption=f"../report/{kind}.rst",
        labels=lambda w: {kind: w[kind], "what": SHOWN[w[kind]]},
    )
    return [shown, *others]


def log_of(stage, *more):
    return LAYOUT.log(stage, "{place}", *more).as_posix()


def benchmark_of(stage, *more):
    return LAYOUT.benchmark(stage, "{place}", *more).as_posix()


def job_of(stage, w):
    """The job that a rule's wildcards mean."""
    names = names_of(stage, w.place) if "place" in w.keys() else {}
    return Part(
        stage, names, {name: value for name, value in w.items() if name != "place"}
    )


def inputs(stage):
    """Input function: all that a job reads."""
    return lambda w: LINE.reads(job_of(stage, w))


def decides(stage):
    """Param: all settings that decide a job's results."""
    return lambda w: LINE.decides(job_of(stage, w))


def code(stage):
    """Param: the id of the code that decides a job's results."""
    return lambda w: LINE.code(job_of(stage, w))


def result(name, **names):
    """Path of one result."""
    return LINE.path(name, **names)


def every(stage, name):
    """One result of each of a stage's jobs."""
    return [result(name, **names) for names in JOBS[stage].values()]


def ending(rules):
    """Lines that say where the results of a run with jobs of these rules lie, and how to open them."""
    root, page = LAYOUT.root.as_posix(), result("page")
    if "tabulate" in rules:
        yield f"tables: {root}/tabulate"
    if "plot" in rules:
        yield f"figures: {root}/plot"
    if "report" in rules:
        command = "open" if sys.platform == "darwin" else "xdg-open"
        folder = f"--bind 127.0.0.1 --directory {root}/report"
        yield f"report: {page}; to open it: {command} {page}"
        yield f"over ssh -L 8000:localhost:8000: python -m http.server {folder}, then http://localhost:8000"
