# The paper's tables.


rule tabulate:
    input:
        numbers=numbers_of,
    output:
        expand(
            f"{LAYOUT.root.as_posix()}/tabulate/{{table}}.{{format}}",
            format=FORMATS,
            allow_missing=True,
        ),
    log:
        LAYOUT.log("tabulate", "tabulate", "{table}").as_posix(),
    benchmark:
        LAYOUT.benchmark("tabulate", "tabulate", "{table}").as_posix()
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
