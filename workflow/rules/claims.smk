# The verdicts, from the rows.
rule verdicts:
    input:
        cell_files(),
    output:
        csv=f"{ROOT}/claims.csv",
        markdown=f"{ROOT}/claims.md",
    log:
        f"{ROOT}/logs/verdicts.log",
    conda:
        "../../environment.yml"
    params:
        root=lambda wildcards: ROOT,
        planned=planned(),
        fingerprint=code("harness.verdicts", *(f"experiments.{question}.claims" for question in QUESTIONS)),
    shell:
        "pudle verdicts --root {params.root:q} 2> {log:q}"
