# One cell is one job: dataset x backbone x arm x seed. Training never sees the test split.


# Item neighbours are keyed by the features they came from, user neighbours by the train split.
rule neighbours_items:
    input:
        features=path("features"),
    output:
        image=path("item_neighbours").replace("{modality}", "image"),
        text=path("item_neighbours").replace("{modality}", "text"),
    log:
        log_of("neighbours", "{dataset}.{arm}"),
    benchmark:
        benchmark_of("neighbours", "{dataset}.{arm}")
    conda:
        "../../envs/cpu.yaml"
    threads: CONFIG.train.threads
    resources:
        mem_mb=6000,
        runtime=60,
    params:
        config=RESOLVED,
        n_neighbours=CONFIG.neighbours.items,
        behaviour=CONFIG.train.behaviour,
        threads=CONFIG.train.threads,
        code=code_id("neighbours-items"),
    shell:
        "python -m cliper neighbours-items --config {params.config} --dataset {wildcards.dataset}"
        " --arm {wildcards.arm} 2>&1 | tee {log:q}"


rule neighbours_users:
    input:
        users=path("users"),
        train=path("train"),
    output:
        users=path("user_neighbours"),
    log:
        log_of("neighbours", "{dataset}.users"),
    benchmark:
        benchmark_of("neighbours", "{dataset}.users")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime=60,
    params:
        config=RESOLVED,
        n_neighbours=CONFIG.neighbours.users,
        code=code_id("neighbours-users"),
    shell:
        "python -m cliper neighbours-users --config {params.config} --dataset {wildcards.dataset} 2>&1 | tee {log:q}"


rule train:
    input:
        users=path("users"),
        item_table=path("items"),
        train=path("train"),
        valid=path("valid"),
        features=features_of,
        graphs=lambda w: graphs_of_cell(w.dataset, w.backbone, w.arm),
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
        mask_valid=CONFIG.evaluate.mask_valid,
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
        mask_valid=CONFIG.evaluate.mask_valid,
        code=code_id("evaluate"),
    shell:
        "python -m cliper evaluate --config {params.config} --dataset {wildcards.dataset} --backbone {wildcards.backbone}"
        " --arm {wildcards.arm} --seed {wildcards.seed} 2>&1 | tee {log:q}"
