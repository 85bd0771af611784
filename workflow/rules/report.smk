# Comparisons, tables, figures, the page; and what Snakemake's own report shows of them.


report: "../report/workflow.rst"


rule compare:
    input:
        inputs("compare"),
    output:
        **outputs("compare"),
    log:
        log_of("compare"),
    benchmark:
        benchmark_of("compare")
    wildcard_constraints:
        place=places("compare"),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        config=RESOLVED,
        mem_mb=4000,
        runtime=60,
    params:
        decides=decides("compare"),
        code=code("compare"),
    shell:
        "python -m cliper compare --config {resources.config} --place {wildcards.place} 2>&1 | tee {log:q}"


rule tabulate:
    input:
        inputs("tabulate"),
    output:
        forms_of("table"),
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
        decides=decides("tabulate"),
        code=code("tabulate"),
    shell:
        "python -m cliper tabulate --config {resources.config} --table {wildcards.table} 2>&1 | tee {log:q}"


rule plot:
    input:
        inputs("plot"),
    output:
        forms_of("figure"),
    log:
        LAYOUT.log("plot", "plot", "{figure}").as_posix(),
    benchmark:
        LAYOUT.benchmark("plot", "plot", "{figure}").as_posix()
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        config=RESOLVED,
        mem_mb=2000,
        runtime=10,
    params:
        decides=decides("plot"),
        code=code("plot"),
    shell:
        "python -m cliper plot --config {resources.config} --figure {wildcards.figure} 2>&1 | tee {log:q}"


rule explore:
    input:
        inputs("explore"),
    output:
        **outputs("explore"),
    log:
        log_of("explore"),
    benchmark:
        benchmark_of("explore")
    wildcard_constraints:
        place=places("explore"),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        config=RESOLVED,
        mem_mb=4000,
        runtime=60,
    params:
        decides=decides("explore"),
        code=code("explore"),
    shell:
        "python -m cliper explore --config {resources.config} --place {wildcards.place} 2>&1 | tee {log:q}"


rule report:
    """The page with all results."""
    input:
        inputs("report"),
    output:
        report(
            result("page"),
            category="Report",
            caption="../report/page.rst",
            labels={"run": CONFIG.name, "what": "Everything on one page"},
        ),
    log:
        LAYOUT.log("report", "report").as_posix(),
    benchmark:
        LAYOUT.benchmark("report", "report").as_posix()
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        config=RESOLVED,
        mem_mb=4000,
        runtime=30,
    params:
        decides=decides("report"),
        code=code("report"),
    shell:
        "python -m cliper report --config {resources.config} 2>&1 | tee {log:q}"
