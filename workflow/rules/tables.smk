# Every cell with its status, and the means of each experiment with their intervals over seeds.
rule coverage:
    input:
        cell_files(),
    output:
        report(f"{ROOT}/cells.csv", caption="../report/coverage.rst", category="Verdicts", labels={"table": "coverage"}),
    log:
        f"{ROOT}/logs/coverage.log",
    conda:
        "../../environment.yml"
    params:
        root=lambda wildcards: ROOT,
        planned=planned(),
        fingerprint=code("analysis.tables"),
    shell:
        "pudle coverage --root {params.root:q} 2> {log:q}"


rule tables:
    input:
        lambda wildcards: cell_files(wildcards.experiment),
    output:
        report(
            f"{ROOT}/tables/{{experiment}}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"experiment": "{experiment}"},
        ),
    log:
        f"{ROOT}/logs/tables/{{experiment}}.log",
    conda:
        "../../environment.yml"
    params:
        root=lambda wildcards: ROOT,
        planned=lambda wildcards: planned(wildcards.experiment),
        fingerprint=code("analysis.tables"),
    shell:
        "pudle tables {wildcards.experiment} --root {params.root:q} 2> {log:q}"
