# The line from raw data to the paper's tables. `snakemake --cores 8 all_tables`
from snakemake.utils import min_version

min_version("9.0")


configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/collect.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/report.smk"


onsuccess:
    for line in ending({job.rule.name for job in workflow.dag.jobs}):
        logger.info(line)


onerror:
    logger.info(
        f"which jobs stopped, and why: python -m cliper status --config {RESOLVED}"
    )


# One target for each table and figure: `snakemake --cores 8 table3`.
for target in dict.fromkeys((*LAYOUT.tables, *LAYOUT.figures)):

    rule:
        name:
            target
        input:
            LINE.target(target),
        localrule: True


localrules:
    all_tables,
    all_figures,
    paper,
    all_download,
    all_catalogue,
    all_crawl,
    all_prompt,
    all_weights,
    all_encode,
    all_fuse,
    all_neighbours,
    all_select,
    all_train,
    all_evaluate,


rule all_tables:
    """All tables, and all before them."""
    default_target: True
    input:
        [path for name in LAYOUT.tables for path in LINE.forms_of("table", name)],


rule all_figures:
    """All figures, and all before them."""
    input:
        [path for name in LAYOUT.figures for path in LINE.forms_of("figure", name)],


rule paper:
    """Everything: all tables and figures, and the page that shows them."""
    input:
        rules.all_tables.input,
        rules.all_figures.input,
        rules.report.output,


rule all_download:
    """The raw files of all datasets."""
    input:
        [result("raw", **names) for names in RAW],


rule all_catalogue:
    """Users, items and splits of all datasets."""
    input:
        every("catalogue", "items"),


rule all_crawl:
    """The cover images."""
    input:
        every("crawl", "images"),


rule all_prompt:
    """The prompts of all views."""
    input:
        every("prompt", "prompts"),


rule all_weights:
    """The weights of all encoders."""
    input:
        every("weights", "weights"),


rule all_encode:
    """The embeddings of all views and images."""
    input:
        [
            path
            for kind in ("text", "image")
            for names in JOBS[f"encode-{kind}"].values()
            for path in LINE.ranges_of(f"{kind}_embeddings", **names)
        ],


rule all_fuse:
    """The fused features of all arms."""
    input:
        every("fuse", "features"),


rule all_neighbours:
    """The neighbours of items and users that the backbones read."""
    input:
        [path for names in JOBS["train"].values() for path in LINE.graphs_of(**names)],


rule all_select:
    """The settings that the searches choose."""
    input:
        every("select", "selected"),


rule all_train:
    """All cells, trained."""
    input:
        every("train", "topk"),


rule all_evaluate:
    """The metrics of all cells."""
    input:
        every("evaluate", "metrics"),
