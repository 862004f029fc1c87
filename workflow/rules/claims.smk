# The verdicts, from the rows.
rule verdicts:
    input:
        ancient(rules.config.output),
        cell_files(),
    output:
        csv=f"{ROOT}/claims.csv",
        markdown=f"{ROOT}/claims.md",
    params:
        fingerprint=code("harness.verdicts", *(f"experiments.{question}.claims" for question in QUESTIONS)),
    log:
        f"{ROOT}/logs/verdicts.log",
    shell:
        "{PUDLE} verdicts --root {ROOT:q} 2> {log:q}"
