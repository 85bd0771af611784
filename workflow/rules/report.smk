# The paper's tables.


rule tabulate:
    input:
        numbers=lambda w: (
            expand(path("counts"), dataset=RUN.datasets)
            if w.table == "table1"
            else expand(path("metrics"), zip, **table_of(CONFIG.cells, *CELL))
        ),
    output:
        csv=path("table").replace("{format}", "csv"),
        md=path("table").replace("{format}", "md"),
        tex=path("table").replace("{format}", "tex"),
    log:
        log_of("tabulate", "{table}"),
    benchmark:
        benchmark_of("tabulate", "{table}")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        config=RESOLVED,
        shown=configuration.plain(CONFIG.tabulate),
        titles=[CONFIG.datasets[dataset].title for dataset in RUN.datasets],
        arms=[
            configuration.plain(CONFIG.arm_of(dataset, arm))
            for dataset in RUN.datasets
            for arm in RUN.arms
        ],
        code=code_id("tabulate"),
    shell:
        "python -m cliper tabulate --config {params.config} --table {wildcards.table} 2>&1 | tee {log:q}"
