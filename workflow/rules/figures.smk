# All figures of an experiment, as PDF, PNG and SVG, each with the CSV of exactly what is plotted. They read the experiment's table and its cells.
def captions(experiment):
    return {figure.name: figure.caption for figure in experiments.get(experiment).figures}


def pictures(experiment):
    """The files of the figures; Snakemake's report shows the PNGs."""
    shown = lambda path: dict(
        caption="../report/figure.rst", category="Figures", subcategory=experiment, labels={"figure": Path(path).stem}
    )
    return [report(path, **shown(path)) if path.endswith(".png") else path for path in figure_files(experiment)]


for experiment in EXPERIMENTS:

    rule:
        name:
            f"figures_{experiment}"
        input:
            again_if_unknown(f"{ROOT}/figures/{experiment}/captions.md"),
            f"{ROOT}/tables/{experiment}.csv",
            row_files(experiment),
            configuration(concerns(experiment)),
        output:
            pictures(experiment),
            f"{ROOT}/figures/{experiment}/captions.md",
        log:
            f"{ROOT}/logs/figures/{experiment}.log",
        localrule: True
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 2000 * attempt,
            runtime=lambda wildcards, attempt: 30 * attempt,
        params:
            root=lambda wildcards: ROOT,
            experiment=experiment,
            planned=planned(experiment),
            captions=lambda wildcards, experiment=experiment: captions(experiment),
            fingerprint=code(f"experiments.{experiment}.figures"),
        shell:
            "pudle figures {params.experiment} --root {params.root:q} 2> {log:q}"
