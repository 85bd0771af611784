# Raw files, interactions, images.


# No code id among the params: the bytes of a file do not depend on how it was fetched.
rule download:
    input:
        inputs("download"),
    output:
        **outputs("download"),
    log:
        log_of("download", "{file}"),
    benchmark:
        benchmark_of("download", "{file}")
    wildcard_constraints:
        place=places("download"),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        config=RESOLVED,
        mem_mb=1000,
        runtime=240,
        net=1,
    shell:
        "python -m cliper download --config {resources.config} --place {wildcards.place} --file {wildcards.file:q}"
        " 2>&1 | tee {log:q}"


rule catalogue:
    input:
        inputs("catalogue"),
    output:
        **outputs("catalogue"),
    log:
        log_of("catalogue"),
    benchmark:
        benchmark_of("catalogue")
    wildcard_constraints:
        place=places("catalogue"),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        config=RESOLVED,
        mem_mb=8000,
        runtime=60,
    params:
        decides=decides("catalogue"),
        code=code("catalogue"),
    shell:
        "python -m cliper catalogue --config {resources.config} --place {wildcards.place} 2>&1 | tee {log:q}"


# Resumable: fetched images are in shards next to the manifest, which stay when the job is killed.
rule crawl:
    input:
        inputs("crawl"),
    output:
        **outputs("crawl"),
    log:
        log_of("crawl"),
    benchmark:
        benchmark_of("crawl")
    wildcard_constraints:
        place=places("crawl"),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        config=RESOLVED,
        mem_mb=2000,
        runtime=720,
        net=1,
    params:
        decides=decides("crawl"),
        code=code("crawl"),
    shell:
        "python -m cliper crawl --config {resources.config} --place {wildcards.place} 2>&1 | tee {log:q}"
