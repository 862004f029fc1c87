# The verdicts, from the rows.
rule verdicts:
    input:
        again_if_unknown(f"{ROOT}/claims.md"),
        row_files(),
        configuration(),
    output:
        csv=report(f"{ROOT}/claims.csv", caption="../report/claims.rst", category="Verdicts", labels={"table": "claims"}),
        markdown=f"{ROOT}/claims.md",
    log:
        f"{ROOT}/logs/verdicts.log",
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
        fingerprint=code(
            "analysis.verdicts",
            *(f"experiments.{experiment}.claims" for experiment in EXPERIMENTS),
            *(f"experiments.{experiment}.controls" for experiment in filter(experiments.has_controls, EXPERIMENTS)),
        ),
    shell:
        "pudle verdicts --root {params.root:q} 2> {log:q}"


# Our values beside the published ones.
rule published:
    input:
        again_if_unknown(f"{ROOT}/published.md"),
        row_files(),
        configuration(),
    output:
        csv=report(
            f"{ROOT}/published.csv", caption="../report/published.rst", category="Verdicts", labels={"table": "published"}
        ),
        markdown=f"{ROOT}/published.md",
        curves=[f"{ROOT}/published_curves.{kind}" for kind in ("csv", "md")],
    log:
        f"{ROOT}/logs/published.log",
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
        fingerprint=code("analysis.comparison"),
        data=contents(f"{BASE}/pudle/published/*.csv", f"{BASE}/pudle/published/*.yaml"),
    shell:
        "pudle published --root {params.root:q} 2> {log:q}"


# Negative controls of an experiment's claims. The run fails unless each control contradicts its claims.
for experiment in filter(experiments.has_controls, EXPERIMENTS):

    rule:
        name:
            f"controls_{experiment}"
        input:
            again_if_unknown(f"{ROOT}/controls/{experiment}.csv"),
        output:
            f"{ROOT}/controls/{experiment}.csv",
        log:
            f"{ROOT}/logs/controls/{experiment}.log",
        priority: 2  # first: controls wait for no other job, and the longest would otherwise run alone at the end
        group:
            batch(f"controls_{experiment}")
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 2000 * attempt,
            runtime=lambda wildcards, attempt: 30 * attempt,
            gpu=0,
        params:
            root=lambda wildcards: ROOT,
            experiment=experiment,
            fingerprint=code(f"experiments.{experiment}.controls", f"experiments.{experiment}.claims"),
        shell:
            "pudle controls {params.experiment} --root {params.root:q} 2> {log:q}"
