# The verdicts, from the rows.
rule verdicts:
    input:
        cell_files(),
    output:
        csv=report(f"{ROOT}/claims.csv", caption="../report/claims.rst", category="Verdicts", labels={"table": "claims"}),
        markdown=f"{ROOT}/claims.md",
    log:
        f"{ROOT}/logs/verdicts.log",
    conda:
        "../../environment.yml"
    params:
        root=lambda wildcards: ROOT,
        planned=planned(),
        fingerprint=code(
            "analysis.verdicts",
            *(f"experiments.{question}.claims" for question in QUESTIONS),
            *(f"experiments.{question}.controls" for question in filter(experiments.has_controls, QUESTIONS)),
        ),
    shell:
        "pudle verdicts --root {params.root:q} 2> {log:q}"


# Ours beside what was published.
rule published:
    input:
        cell_files(),
        [f"{workflow.basedir}/pudle/published/{name}" for name in ("values.csv", "curves.csv", "sources.csv")],
    output:
        csv=report(
            f"{ROOT}/published.csv", caption="../report/published.rst", category="Verdicts", labels={"table": "published"}
        ),
        markdown=f"{ROOT}/published.md",
        curves=[f"{ROOT}/published_curves.{kind}" for kind in ("csv", "md")],
    log:
        f"{ROOT}/logs/published.log",
    conda:
        "../../environment.yml"
    params:
        root=lambda wildcards: ROOT,
        planned=planned(),
        fingerprint=code("analysis.published"),
    shell:
        "pudle published --root {params.root:q} 2> {log:q}"


# Negative controls of a question's claims: the run fails if one of them lets its claim stand.
for question in filter(experiments.has_controls, QUESTIONS):

    rule:
        name:
            f"controls_{question}"
        output:
            f"{ROOT}/controls/{question}.csv",
        log:
            f"{ROOT}/logs/controls/{question}.log",
        priority: 2  # first: they wait for nothing, and the longest would else be all that runs at the end
        conda:
            "../../environment.yml"
        params:
            root=lambda wildcards: ROOT,
            question=question,
            fingerprint=code(f"experiments.{question}.controls", f"experiments.{question}.claims"),
        shell:
            "pudle controls {params.question} --root {params.root:q} 2> {log:q}"
