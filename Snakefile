# The line from raw data to the paper's tables. `snakemake --cores 8 all_tables`
from snakemake.utils import min_version

min_version("9.0")


configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/collect.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/report.smk"


localrules:
    all_tables,
    all_download,
    all_catalogue,
    all_crawl,
    all_prompt,
    all_weights,
    all_encode,
    all_fuse,
    all_neighbours,
    all_train,
    all_evaluate,


rule all_tables:
    default_target: True
    input:
        expand(path("table"), table=["table1", "table2"], format=["csv", "md", "tex"]),


rule all_download:
    input:
        [
            f
            for d in RUN.datasets
            for f in raw_files(d, CONFIG.datasets[d].raw_files(RUN.arms))
        ],


rule all_catalogue:
    input:
        expand(path("items"), dataset=RUN.datasets),


rule all_crawl:
    input:
        expand(path("images"), dataset=CRAWLED),


rule all_prompt:
    input:
        expand(path("prompts"), zip, **table_of(PROMPTS, "dataset", "prompts", "view")),


rule all_weights:
    input:
        expand(path("weights"), encoder=ENCODERS),


rule all_encode:
    input:
        [f for cell in MADE for f in [*images_of(*cell), *texts_of(*cell)]],


rule all_fuse:
    input:
        expand(path("features"), dataset=RUN.datasets, arm=RUN.arms),


rule all_neighbours:
    input:
        [
            f
            for dataset, backbone, arm, _ in CONFIG.cells
            for f in graphs_of_cell(dataset, backbone, arm)
        ],


rule all_train:
    input:
        expand(path("topk"), zip, **table_of(CONFIG.cells, *CELL)),


rule all_evaluate:
    input:
        expand(path("metrics"), zip, **table_of(CONFIG.cells, *CELL)),
