# Every cell with its status, and the means of each question with their intervals over seeds.
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
        lambda wildcards: cell_files(wildcards.question),
    output:
        report(
            f"{ROOT}/tables/{{question}}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"question": "{question}"},
        ),
    log:
        f"{ROOT}/logs/tables/{{question}}.log",
    conda:
        "../../environment.yml"
    params:
        root=lambda wildcards: ROOT,
        planned=lambda wildcards: planned(wildcards.question),
        fingerprint=code("analysis.tables"),
    shell:
        "pudle tables {wildcards.question} --root {params.root:q} 2> {log:q}"
