# The merged configuration, every cell with its status, and the means of each question with their intervals over seeds.
rule config:
    output:
        f"{ROOT}/config.json",
    params:
        config=files.canonical_json(config),
    log:
        f"{ROOT}/logs/config.log",
    shell:
        "{PUDLE} config --root {ROOT:q} --config {params.config:q} 2> {log:q}"


rule coverage:
    input:
        ancient(rules.config.output),
        cell_files(),
    output:
        f"{ROOT}/cells.csv",
    params:
        fingerprint=code("harness.tables"),
    log:
        f"{ROOT}/logs/coverage.log",
    shell:
        "{PUDLE} coverage --root {ROOT:q} 2> {log:q}"


rule tables:
    input:
        ancient(rules.config.output),
        lambda wildcards: cell_files(wildcards.question),
    output:
        f"{ROOT}/tables/{{question}}.csv",
    params:
        fingerprint=code("harness.tables"),
    log:
        f"{ROOT}/logs/tables/{{question}}.log",
    shell:
        "{PUDLE} tables {wildcards.question} --root {ROOT:q} 2> {log:q}"
