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
        [
            result("table", table=table, format=form)
            for table in ("table1", "table2")
            for form in ("csv", "md", "tex")
        ],


rule all_download:
    input:
        [result("raw", **names) for names in RAW],


rule all_catalogue:
    input:
        every("catalogue", "items"),


rule all_crawl:
    input:
        every("crawl", "images"),


rule all_prompt:
    input:
        every("prompt", "prompts"),


rule all_weights:
    input:
        every("weights", "weights"),


rule all_encode:
    input:
        [
            path
            for kind in ("text", "image")
            for names in JOBS[f"encode-{kind}"].values()
            for path in ranges_of(f"{kind}_embeddings", **names)
        ],


rule all_fuse:
    input:
        every("fuse", "features"),


rule all_neighbours:
    input:
        [path for names in JOBS["train"].values() for path in graphs_of(**names)],


rule all_train:
    input:
        every("train", "topk"),


rule all_evaluate:
    input:
        every("evaluate", "metrics"),
