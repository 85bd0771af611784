# Prompts, encoders, embeddings, features: one table of texts per dataset, encoder and view.


rule prompt:
    input:
        inputs("prompt"),
    output:
        **outputs("prompt"),
    log:
        log_of("prompt"),
    benchmark:
        benchmark_of("prompt")
    wildcard_constraints:
        place=places("prompt"),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        config=RESOLVED,
        mem_mb=1000,
        runtime=20,
    params:
        decides=decides("prompt"),
        code=code("prompt"),
    shell:
        "python -m cliper prompt --config {resources.config} --place {wildcards.place} 2>&1 | tee {log:q}"


rule weights:
    input:
        inputs("weights"),
    output:
        **outputs("weights"),
    log:
        log_of("weights"),
    benchmark:
        benchmark_of("weights")
    wildcard_constraints:
        place=places("weights"),
    conda:
        "../../envs/cpu.yaml"
    threads: CONFIG.encode.threads
    resources:
        config=RESOLVED,
        mem_mb=4000,
        runtime=120,
        net=1,
    params:
        decides=decides("weights"),
        code=code("weights"),
    shell:
        "python -m cliper weights --config {resources.config} --place {wildcards.place} 2>&1 | tee {log:q}"


rule encode_text:
    input:
        inputs("encode-text"),
    output:
        **outputs("encode-text"),
    log:
        log_of("encode-text", "{range}"),
    benchmark:
        benchmark_of("encode-text", "{range}")
    wildcard_constraints:
        place=places("encode-text"),
    conda:
        ENVIRONMENT["encode"]
    threads: CONFIG.encode.threads
    resources:
        config=RESOLVED,
        mem_mb=6000,
        runtime=720,
        gpu=GPUS["encode"],
    params:
        decides=decides("encode-text"),
        code=code("encode-text"),
    shell:
        "python -m cliper encode-text --config {resources.config} --place {wildcards.place} --range {wildcards.range}"
        " 2>&1 | tee {log:q}"


rule encode_image:
    input:
        inputs("encode-image"),
    output:
        **outputs("encode-image"),
    log:
        log_of("encode-image", "{range}"),
    benchmark:
        benchmark_of("encode-image", "{range}")
    wildcard_constraints:
        place=places("encode-image"),
    conda:
        ENVIRONMENT["encode"]
    threads: CONFIG.encode.threads
    resources:
        config=RESOLVED,
        mem_mb=6000,
        runtime=1440,
        gpu=GPUS["encode"],
    params:
        decides=decides("encode-image"),
        code=code("encode-image"),
    shell:
        "python -m cliper encode-image --config {resources.config} --place {wildcards.place} --range {wildcards.range}"
        " 2>&1 | tee {log:q}"


rule encode_default_image:
    input:
        inputs("encode-default-image"),
    output:
        **outputs("encode-default-image"),
    log:
        log_of("encode-default-image"),
    benchmark:
        benchmark_of("encode-default-image")
    wildcard_constraints:
        place=places("encode-default-image"),
    conda:
        ENVIRONMENT["encode"]
    threads: CONFIG.encode.threads
    resources:
        config=RESOLVED,
        mem_mb=6000,
        runtime=60,
        gpu=GPUS["encode"],
    params:
        decides=decides("encode-default-image"),
        code=code("encode-default-image"),
    shell:
        "python -m cliper encode-default-image --config {resources.config} --place {wildcards.place} 2>&1 | tee {log:q}"


rule fuse:
    input:
        inputs("fuse"),
    output:
        **outputs("fuse"),
    log:
        log_of("fuse"),
    benchmark:
        benchmark_of("fuse")
    wildcard_constraints:
        place=places("fuse"),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        config=RESOLVED,
        mem_mb=8000,
        runtime=30,
    params:
        decides=decides("fuse"),
        code=code("fuse"),
    shell:
        "python -m cliper fuse --config {resources.config} --place {wildcards.place} 2>&1 | tee {log:q}"
