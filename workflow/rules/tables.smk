# The configuration of this run, merged from all its files, and the plan: the list of its cells. Cells and stages read both, so that later
# edits of those files do not affect the run.
rule configuration:
    input:
        again_if_changed,
    output:
        PLANNED,
    log:
        f"{ROOT}/logs/configuration.log",
    priority: 3  # every cell waits for it
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        root=lambda wildcards: ROOT,
        configuration=lambda wildcards: CONFIGURATION,
    shell:
        "pudle configuration {params.configuration:q} --root {params.root:q} 2> {log:q}"


# Every cell with its status, and the means of each experiment with their intervals over seeds.
rule coverage:
    input:
        again_if_unknown(f"{ROOT}/cells.csv"),
        cell_files(),
        configuration(),
    output:
        report(f"{ROOT}/cells.csv", caption="../report/coverage.rst", category="Verdicts", labels={"table": "coverage"}),
    log:
        f"{ROOT}/logs/coverage.log",
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        root=lambda wildcards: ROOT,
        planned=planned(),
        fingerprint=code("analysis.tables"),
    shell:
        "pudle coverage --root {params.root:q} 2> {log:q}"


rule tables:
    input:
        again_if_unknown(f"{ROOT}/tables/{{experiment}}.csv"),
        lambda wildcards: row_files(wildcards.experiment),
        lambda wildcards: configuration(concerns(wildcards.experiment)),
    output:
        report(
            f"{ROOT}/tables/{{experiment}}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"experiment": "{experiment}"},
        ),
    log:
        f"{ROOT}/logs/tables/{{experiment}}.log",
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        root=lambda wildcards: ROOT,
        planned=lambda wildcards: planned(wildcards.experiment),
        fingerprint=code("analysis.tables"),
    shell:
        "pudle tables {wildcards.experiment} --root {params.root:q} 2> {log:q}"
