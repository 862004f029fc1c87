# All figures of a question, as PDF and PNG, each with the CSV of exactly what is plotted.
for question in QUESTIONS:

    rule:
        name:
            f"figures_{question}"
        input:
            f"{ROOT}/tables/{question}.csv",
            cell_files(question),
        output:
            figure_files(question),
            f"{ROOT}/figures/{question}/captions.md",
        log:
            f"{ROOT}/logs/figures/{question}.log",
        conda:
            "../../environment.yml"
        params:
            root=lambda wildcards: ROOT,
            question=question,
            planned=planned(question),
            fingerprint=code(f"experiments.{question}.figures"),
        shell:
            "pudle figures {params.question} --root {params.root:q} 2> {log:q}"
