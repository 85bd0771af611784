# Prompts, encoders, embeddings, features: one text table a (dataset, encoder, view).


rule prompt:
    input:
        item_table=path("items"),
    output:
        prompts=path("prompts"),
        cleaning=path("cleaning"),
    log:
        log_of("prompt", "{dataset}.{prompts}.{view}"),
    benchmark:
        benchmark_of("prompt", "{dataset}.{prompts}.{view}")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=20,
    params:
        config=RESOLVED,
        templates=lambda w: templates(w.prompts, w.view),
        noise=configuration.noise_values(),
        code=code_id("prompt"),
    shell:
        "python -m cliper prompt --config {params.config} --dataset {wildcards.dataset} --prompts {wildcards.prompts}"
        " --view {wildcards.view} 2>&1 | tee {log:q}"


rule weights:
    output:
        weights=path("weights"),
    log:
        log_of("weights", "{encoder}"),
    benchmark:
        benchmark_of("weights", "{encoder}")
    conda:
        "../../envs/cpu.yaml"
    threads: CONFIG.encode.threads
    resources:
        mem_mb=4000,
        runtime=120,
        net=1,
    params:
        config=RESOLVED,
        encoder=lambda w: configuration.plain(CONFIG.encoders[w.encoder]),
        code=lambda w: code_id("weights", CONFIG.encoders[w.encoder].kind),
    shell:
        "python -m cliper weights --config {params.config} --encoder {wildcards.encoder} 2>&1 | tee {log:q}"


rule encode_text:
    input:
        prompts=path("prompts"),
        weights=path("weights"),
    output:
        embeddings=path("text_embeddings").replace("{shards}", str(SHARDS)),
    log:
        log_of("encode", "{dataset}.{encoder}.{prompts}.{view}.{shard}"),
    benchmark:
        benchmark_of("encode", "{dataset}.{encoder}.{prompts}.{view}.{shard}")
    conda:
        ENVIRONMENT["encode"]
    threads: CONFIG.encode.threads
    resources:
        mem_mb=6000,
        runtime=720,
        gpu=GPUS["encode"],
    params:
        config=RESOLVED,
        encoder=lambda w: configuration.plain(CONFIG.encoders[w.encoder]),
        encode=ENCODE,
        prefix=lambda w: CONFIG.slice_prefix(w.prompts, w.view),
        code=lambda w: code_id("encode-text", CONFIG.encoders[w.encoder].kind),
    shell:
        "python -m cliper encode-text --config {params.config} --dataset {wildcards.dataset}"
        " --encoder {wildcards.encoder} --prompts {wildcards.prompts} --view {wildcards.view} --shard {wildcards.shard}"
        " 2>&1 | tee {log:q}"


rule encode_image:
    input:
        images=path("images"),
        weights=path("weights"),
    output:
        embeddings=path("image_embeddings").replace("{shards}", str(SHARDS)),
    log:
        log_of("encode", "{dataset}.{encoder}.images.{shard}"),
    benchmark:
        benchmark_of("encode", "{dataset}.{encoder}.images.{shard}")
    conda:
        ENVIRONMENT["encode"]
    threads: CONFIG.encode.threads
    resources:
        mem_mb=6000,
        runtime=1440,
        gpu=GPUS["encode"],
    params:
        config=RESOLVED,
        encoder=lambda w: configuration.plain(CONFIG.encoders[w.encoder]),
        encode=ENCODE,
        code=lambda w: code_id("encode-image", CONFIG.encoders[w.encoder].kind),
    shell:
        "python -m cliper encode-image --config {params.config} --dataset {wildcards.dataset}"
        " --encoder {wildcards.encoder} --shard {wildcards.shard} 2>&1 | tee {log:q}"


rule encode_default_image:
    input:
        weights=path("weights"),
    output:
        embedding=path("default_image"),
    log:
        log_of("encode", "{encoder}.default_image"),
    benchmark:
        benchmark_of("encode", "{encoder}.default_image")
    conda:
        ENVIRONMENT["encode"]
    threads: CONFIG.encode.threads
    resources:
        mem_mb=6000,
        runtime=60,
        gpu=GPUS["encode"],
    params:
        config=RESOLVED,
        encoder=lambda w: configuration.plain(CONFIG.encoders[w.encoder]),
        encode=ENCODE,
        code=lambda w: code_id("encode-default-image", CONFIG.encoders[w.encoder].kind),
    shell:
        "python -m cliper encode-default-image --config {params.config} --encoder {wildcards.encoder}"
        " 2>&1 | tee {log:q}"


rule fuse:
    input:
        image=lambda w: images_of(w.dataset, w.arm),
        text=lambda w: texts_of(w.dataset, w.arm),
        item_table=lambda w: items_of(w.dataset, w.arm),
        default_image=lambda w: default_image_of(w.dataset, w.arm),
    output:
        features=path("features"),
        view_weights=path("view_weights"),
        fallbacks=path("fallbacks"),
        tokens=path("token_report"),
    log:
        log_of("fuse", "{dataset}.{arm}"),
    benchmark:
        benchmark_of("fuse", "{dataset}.{arm}")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=30,
    params:
        config=RESOLVED,
        arm=lambda w: made_by(w.dataset, w.arm),
        code=code_id("fuse"),
    shell:
        "python -m cliper fuse --config {params.config} --dataset {wildcards.dataset} --arm {wildcards.arm}"
        " 2>&1 | tee {log:q}"
