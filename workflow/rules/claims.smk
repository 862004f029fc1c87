# The verdicts, from the rows.
rule verdicts:
    input:
        again_if_unknown(f"{ROOT}/claims.md"),
        cell_files(),
        ancient(f"{ROOT}/config.json"),
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


# Ours beside what was published.
rule published:
    input:
        again_if_unknown(f"{ROOT}/published.md"),
        cell_files(),
        ancient(f"{ROOT}/config.json"),
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
        fingerprint=code("analysis.published"),
        data=contents(f"{workflow.basedir}/pudle/published/*.csv", f"{workflow.basedir}/pudle/published/*.yaml"),
    shell:
        "pudle published --root {params.root:q} 2> {log:q}"


# Negative controls of an experiment's claims: the run fails if one of them lets its claim stand.
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
        priority: 2  # first: they wait for nothing, and the longest would else be all that runs at the end
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
