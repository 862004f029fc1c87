# One job per cell: a point of an experiment's grid with all its seeds.
for question in QUESTIONS:

    rule:
        name:
            f"cell_{question}"
        output:
            multiext(f"{ROOT}/cells/{question}/{{cell}}/", "rows.csv", "cell.json"),
        log:
            f"{ROOT}/logs/{question}/{{cell}}.log",
        priority: 1  # before tables and figures, which wait for the last cell of their question
        conda:
            "../../environment.yml"
        threads: config["threads"]
        params:
            question=question,
            device=config["device"],
            settings=lambda wildcards, question=question: files.canonical_json(dict(cell(question, wildcards).settings)),
            seeds=lambda wildcards, question=question: ",".join(map(str, cell(question, wildcards).seeds)),
            varies=lambda wildcards, question=question: ",".join(cell(question, wildcards).varies),
            plugin=lambda wildcards, question=question: plugin(cell(question, wildcards)),
            fingerprint=lambda wildcards, question=question: experiments.fingerprint(cell(question, wildcards)),
            data=lambda wildcards, question=question: [
                digest(name) for name in experiments.data_sets(cell(question, wildcards))
            ],
            folder=lambda wildcards, output: os.path.dirname(output[0]),
        shell:
            "pudle cell {params.question} --settings {params.settings:q} --seeds {params.seeds} --varies '{params.varies}'"
            " --threads {threads} --device {params.device} {params.plugin:q} --fingerprint {params.fingerprint} --output {params.folder:q} 2> {log:q}"
