# Raw files, who bought what, images.


# No code id and no mirror among the params: the bytes of a file do not depend on how it was fetched.
rule download:
    input:
        own=lambda w: own_file(w.dataset, w.file),
    output:
        raw=path("raw"),
    log:
        log_of("download", "{dataset}/{file}"),
    benchmark:
        benchmark_of("download", "{dataset}/{file}")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=240,
        net=1,
    params:
        config=RESOLVED,
    shell:
        "python -m cliper download --config {params.config} --dataset {wildcards.dataset} --file {wildcards.file}"
        " 2>&1 | tee {log:q}"


rule catalogue:
    input:
        raw=lambda w: raw_files(
            w.dataset, CONFIG.datasets[w.dataset].source.files.values()
        ),
    output:
        train=path("train"),
        valid=path("valid"),
        test=path("test"),
        users=path("users"),
        item_table=path("items"),
        counts=path("counts"),
    log:
        log_of("catalogue", "{dataset}"),
    benchmark:
        benchmark_of("catalogue", "{dataset}")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        config=RESOLVED,
        dataset=lambda w: cut_by(w.dataset),
        code=lambda w: code_id("catalogue", CONFIG.datasets[w.dataset].source.kind),
    shell:
        "python -m cliper catalogue --config {params.config} --dataset {wildcards.dataset} 2>&1 | tee {log:q}"


# Resumable: what it has fetched lies in shards beside the manifest and is kept when the job is killed.
rule crawl:
    input:
        item_table=path("items"),
        own_images=lambda w: own_images(w.dataset),
    output:
        images=path("images"),
    log:
        log_of("crawl", "{dataset}"),
    benchmark:
        benchmark_of("crawl", "{dataset}")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=720,
        net=1,
    params:
        config=RESOLVED,
        kept=[
            CONFIG.crawl.max_bytes,
            CONFIG.crawl.max_pixels,
            CONFIG.crawl.min_side_px,
            CONFIG.crawl.allow_hosts,
            CONFIG.crawl.robots_txt,
        ],
        placeholders=configuration.placeholders(),
        shard_size=CONFIG.crawl.shard_size,
        code=code_id("crawl"),
    shell:
        "python -m cliper crawl --config {params.config} --dataset {wildcards.dataset} 2>&1 | tee {log:q}"
