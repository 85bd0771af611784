# One cell is one job: dataset x backbone x arm x seed. Training never sees the test split.


rule train:
    input:
        users=path("users"),
        item_table=path("items"),
        train=path("train"),
        valid=path("valid"),
        features=features_of,
    output:
        history=path("history"),
        topk=path("topk"),
        run=path("run"),
    log:
        log_of("train", "{dataset}.{backbone}.{arm}.{seed}"),
    benchmark:
        benchmark_of("train", "{dataset}.{backbone}.{arm}.{seed}")
    conda:
        ENVIRONMENT["train"]
    threads: CONFIG.train.threads
    resources:
        mem_mb=8000,
        runtime=1440,
        gpu=GPUS["train"],
    params:
        config=RESOLVED,
        backbone=lambda w: configuration.plain(getattr(CONFIG.backbones, w.backbone)),
        d=lambda w: CONFIG.arms[w.arm].d,
        train=configuration.plain(CONFIG.train),
        top=max(CONFIG.evaluate.cutoffs),
        code=lambda w: code_id("train", w.backbone),
    shell:
        "python -m cliper train --config {params.config} --dataset {wildcards.dataset} --backbone {wildcards.backbone}"
        " --arm {wildcards.arm} --seed {wildcards.seed} 2>&1 | tee {log:q}"


rule evaluate:
    input:
        topk=path("topk"),
        valid=path("valid"),
        test=path("test"),
    output:
        metrics=path("metrics"),
        user_metrics=path("user_metrics"),
    log:
        log_of("evaluate", "{dataset}.{backbone}.{arm}.{seed}"),
    benchmark:
        benchmark_of("evaluate", "{dataset}.{backbone}.{arm}.{seed}")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        config=RESOLVED,
        cutoffs=CONFIG.evaluate.cutoffs,
        code=code_id("evaluate"),
    shell:
        "python -m cliper evaluate --config {params.config} --dataset {wildcards.dataset} --backbone {wildcards.backbone}"
        " --arm {wildcards.arm} --seed {wildcards.seed} 2>&1 | tee {log:q}"
