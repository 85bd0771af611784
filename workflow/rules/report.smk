# The paper's tables.


rule tabulate:
    input:
        numbers=numbers_of,
    output:
        expand(
            f"{LAYOUT.root.as_posix()}/tabulate/{{table}}.{{format}}",
            format=["csv", "md", "tex"],
            allow_missing=True,
        ),
    log:
        f"{LAYOUT.root.as_posix()}/logs/tabulate/{{table}}.log",
    benchmark:
        f"{LAYOUT.root.as_posix()}/benchmarks/tabulate/{{table}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        config=RESOLVED,
        mem_mb=1000,
        runtime=10,
    params:
        decides=lambda w: deciding(BUILDERS["tabulate"](CONFIG, table=w.table)),
        code=code_id("tabulate"),
    shell:
        "python -m cliper tabulate --config {resources.config} --table {wildcards.table} 2>&1 | tee {log:q}"
