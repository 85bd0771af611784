# Comparisons, tables, figures, the page; and what Snakemake's own report shows of them.


report: "../report/workflow.rst"



rule compare:
    input:
        user_metrics=of("compare", compared),
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
        code=code_id("compare"),
    shell:
        "python -m cliper compare --config {resources.config} --place {wildcards.place} 2>&1 | tee {log:q}"


rule tabulate:
    input:
        numbers=numbers_of,
    output:
        forms_of("table", FORMATS),
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


rule plot:
    input:
        numbers=drawn_of,
    output:
        forms_of("figure", DRAWN),
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
        decides=lambda w: deciding(BUILDERS["plot"](CONFIG, figure=w.figure)),
        code=code_id("plot"),
    shell:
        "python -m cliper plot --config {resources.config} --figure {wildcards.figure} 2>&1 | tee {log:q}"


rule explore:
    input:
        shown=of("explore", explored_of),
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
        code=code_id("explore"),
    shell:
        "python -m cliper explore --config {resources.config} --place {wildcards.place} 2>&1 | tee {log:q}"


rule report:
    """The page with all results."""
    input:
        shown=reported_of,
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
        decides=lambda w: deciding(BUILDERS["report"](CONFIG)),
        code=code_id("report"),
    shell:
        "python -m cliper report --config {resources.config} 2>&1 | tee {log:q}"
