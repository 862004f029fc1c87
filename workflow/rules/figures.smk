# All figures of a question, as PDF, PNG and SVG, each with the CSV of exactly what is plotted.
def captions(question):
    return {figure.name: figure.caption for figure in experiments.part(question, "figures").FIGURES}


def pictures(question):
    """The files of the figures; the PNGs stand in Snakemake's report."""
    told = lambda path: dict(
        caption="../report/figure.rst", category="Figures", subcategory=question, labels={"figure": Path(path).stem}
    )
    return [report(path, **told(path)) if path.endswith(".png") else path for path in figure_files(question)]


for question in QUESTIONS:

    rule:
        name:
            f"figures_{question}"
        input:
            f"{ROOT}/tables/{question}.csv",
            cell_files(question),
        output:
            pictures(question),
            f"{ROOT}/figures/{question}/captions.md",
        log:
            f"{ROOT}/logs/figures/{question}.log",
        conda:
            "../../environment.yml"
        params:
            root=lambda wildcards: ROOT,
            question=question,
            planned=planned(question),
            captions=captions(question),
            fingerprint=code(f"experiments.{question}.figures"),
        shell:
            "pudle figures {params.question} --root {params.root:q} 2> {log:q}"
