# One cell is one job: dataset x backbone x arm x seed. Training never sees the test split.


# The key of item neighbours comes from the features, that of user neighbours from the train split.
rule neighbours_items:
    input:
        inputs("neighbours-items"),
    output:
        **outputs("neighbours-items"),
    log:
        log_of("neighbours-items"),
    benchmark:
        benchmark_of("neighbours-items")
    wildcard_constraints:
        place=places("neighbours-items"),
    conda:
        "../../envs/cpu.yaml"
    threads: CONFIG.train.threads
    resources:
        config=RESOLVED,
        mem_mb=6000,
        runtime=60,
    params:
        decides=decides("neighbours-items"),
        code=code("neighbours-items"),
    shell:
        "python -m cliper neighbours-items --config {resources.config} --place {wildcards.place} 2>&1 | tee {log:q}"


rule neighbours_users:
    input:
        inputs("neighbours-users"),
    output:
        **outputs("neighbours-users"),
    log:
        log_of("neighbours-users"),
    benchmark:
        benchmark_of("neighbours-users")
    wildcard_constraints:
        place=places("neighbours-users"),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        config=RESOLVED,
        mem_mb=6000,
        runtime=60,
    params:
        decides=decides("neighbours-users"),
        code=code("neighbours-users"),
    shell:
        "python -m cliper neighbours-users --config {resources.config} --place {wildcards.place} 2>&1 | tee {log:q}"


# The slots of a search are fixed, which trial each of them continues is not: so it may read any of the rung before.
rule trial:
    input:
        inputs("trial"),
    output:
        **outputs("trial"),
    log:
        log_of("trial"),
    benchmark:
        benchmark_of("trial")
    wildcard_constraints:
        place=places("trial"),
    conda:
        ENVIRONMENT["train"]
    threads: CONFIG.train.threads
    resources:
        config=RESOLVED,
        mem_mb=8000,
        runtime=1440,
        gpu=GPUS["train"],
    params:
        decides=decides("trial"),
        code=code("trial"),
    shell:
        "python -m cliper trial --config {resources.config} --place {wildcards.place} 2>&1 | tee {log:q}"


rule select:
    input:
        inputs("select"),
    output:
        **outputs("select"),
        best=f"{LAYOUT.root.as_posix()}/{{place}}.yaml",
    log:
        log_of("select"),
    benchmark:
        benchmark_of("select")
    wildcard_constraints:
        place=places("select"),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        config=RESOLVED,
        mem_mb=1000,
        runtime=10,
    params:
        decides=decides("select"),
        code=code("select"),
    shell:
        "python -m cliper select --config {resources.config} --place {wildcards.place} 2>&1 | tee {log:q}"


rule train:
    input:
        inputs("train"),
    output:
        **outputs("train"),
    log:
        log_of("train"),
    benchmark:
        benchmark_of("train")
    wildcard_constraints:
        place=places("train"),
    conda:
        ENVIRONMENT["train"]
    threads: CONFIG.train.threads
    resources:
        config=RESOLVED,
        mem_mb=8000,
        runtime=1440,
        gpu=GPUS["train"],
    params:
        decides=decides("train"),
        code=code("train"),
    shell:
        "python -m cliper train --config {resources.config} --place {wildcards.place} 2>&1 | tee {log:q}"


rule evaluate:
    input:
        inputs("evaluate"),
    output:
        **outputs("evaluate"),
    log:
        log_of("evaluate"),
    benchmark:
        benchmark_of("evaluate")
    wildcard_constraints:
        place=places("evaluate"),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        config=RESOLVED,
        mem_mb=4000,
        runtime=30,
    params:
        decides=decides("evaluate"),
        code=code("evaluate"),
    shell:
        "python -m cliper evaluate --config {resources.config} --place {wildcards.place} 2>&1 | tee {log:q}"


rule hindsight:
    input:
        inputs("hindsight"),
    output:
        **outputs("hindsight"),
    log:
        log_of("hindsight"),
    benchmark:
        benchmark_of("hindsight")
    wildcard_constraints:
        place=places("hindsight"),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        config=RESOLVED,
        mem_mb=4000,
        runtime=30,
    params:
        decides=decides("hindsight"),
        code=code("hindsight"),
    shell:
        "python -m cliper hindsight --config {resources.config} --place {wildcards.place} 2>&1 | tee {log:q}"
