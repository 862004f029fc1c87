# The report: all figures, verdicts and tables on one page.
rule report:
    input:
        again_if_unknown(f"{ROOT}/report/index.html"),
        cell_files(),
        [figure_files(experiment) for experiment in EXPERIMENTS],
        f"{ROOT}/cells.csv",
        f"{ROOT}/claims.csv",
        f"{ROOT}/published.csv",
        f"{ROOT}/published_curves.csv",
        configuration(),
    output:
        report(f"{ROOT}/report/index.html", caption="../report/page.rst", category="Verdicts", labels={"table": "page"}),
    log:
        f"{ROOT}/logs/report.log",
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        root=lambda wildcards: ROOT,
        fingerprint=code("analysis.report"),
        page=contents(f"{BASE}/pudle/analysis/report/page.*"),
    shell:
        "pudle report --root {params.root:q} 2> {log:q}"
