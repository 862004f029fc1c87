# One job per cell: a point of an experiment's grid with all its seeds.
for question in QUESTIONS:

    rule:
        name:
            f"cell_{question}"
        output:
            multiext(f"{ROOT}/cells/{question}/{{cell}}/", "rows.csv", "cell.json"),
        log:
            f"{ROOT}/logs/{question}/{{cell}}.log",
        benchmark:
            f"{ROOT}/logs/{question}/{{cell}}.time.tsv"
        conda:
            "../../environment.yml"
        threads: config["threads"]
        params:
            question=question,
            settings=lambda wildcards, question=question: files.canonical_json(
                dict(CELLS[f"{question}/{wildcards.cell}"].settings)
            ),
            seeds=lambda wildcards, question=question: ",".join(map(str, CELLS[f"{question}/{wildcards.cell}"].seeds)),
            varies=lambda wildcards, question=question: ",".join(CELLS[f"{question}/{wildcards.cell}"].varies),
            fingerprint=code(f"experiments.{question}.run"),
            folder=lambda wildcards, output: os.path.dirname(output[0]),
        shell:
            "python -m pudle cell {params.question} --settings {params.settings:q} --seeds {params.seeds} --varies '{params.varies}'"
            " --threads {threads} --fingerprint {params.fingerprint} --output {params.folder:q} 2> {log:q}"
