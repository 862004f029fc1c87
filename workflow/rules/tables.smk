# The merged configuration, every cell with its status, and the means of each question with their intervals over seeds.
rule config:
    output:
        f"{ROOT}/config.json",
    log:
        f"{ROOT}/logs/config.log",
    conda:
        "../../environment.yml"
    params:
        root=lambda wildcards, output: os.path.dirname(output[0]),
        config=files.canonical_json(config),
    shell:
        "python -m pudle config --root {params.root:q} --config {params.config:q} 2> {log:q}"


rule coverage:
    input:
        ancient(rules.config.output),
        cell_files(),
    output:
        f"{ROOT}/cells.csv",
    log:
        f"{ROOT}/logs/coverage.log",
    conda:
        "../../environment.yml"
    params:
        root=lambda wildcards, input: os.path.dirname(input[0]),
        fingerprint=code("harness.tables"),
    shell:
        "python -m pudle coverage --root {params.root:q} 2> {log:q}"


rule tables:
    input:
        ancient(rules.config.output),
        lambda wildcards: cell_files(wildcards.question),
    output:
        f"{ROOT}/tables/{{question}}.csv",
    log:
        f"{ROOT}/logs/tables/{{question}}.log",
    conda:
        "../../environment.yml"
    params:
        root=lambda wildcards, input: os.path.dirname(input[0]),
        fingerprint=code("harness.tables"),
    shell:
        "python -m pudle tables {wildcards.question} --root {params.root:q} 2> {log:q}"
