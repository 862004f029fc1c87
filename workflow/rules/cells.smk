# One job per cell: a point of an experiment's grid with all its seeds.
for experiment in EXPERIMENTS:

    rule:
        name:
            f"cell_{experiment}"
        input:
            lambda wildcards, experiment=experiment: again_if_stale(experiment, wildcards),
        output:
            multiext(f"{ROOT}/cells/{experiment}/{{cell}}/", "rows.csv", "cell.json"),
        log:
            f"{ROOT}/logs/{experiment}/{{cell}}.log",
        wildcard_constraints:
            cell=computed(experiment),
        priority: 1  # before tables and figures, which wait for the last cell of their experiment
        conda:
            "../../environment.yml"
        threads: config["threads"]
        params:
            experiment=experiment,
            device=config["device"],
            settings=lambda wildcards, experiment=experiment: files.canonical_json(dict(cell(experiment, wildcards).settings)),
            seeds=lambda wildcards, experiment=experiment: ",".join(map(str, cell(experiment, wildcards).seeds)),
            varies=lambda wildcards, experiment=experiment: ",".join(cell(experiment, wildcards).varies),
            plugin=lambda wildcards, experiment=experiment: plugin(cell(experiment, wildcards)),
            fingerprint=lambda wildcards, experiment=experiment: experiments.fingerprint(cell(experiment, wildcards)),
            data=lambda wildcards, experiment=experiment: [
                digest(name) for name in experiments.data_sets(cell(experiment, wildcards))
            ],
            folder=lambda wildcards, output: os.path.dirname(output[0]),
        shell:
            "pudle cell {params.experiment} --settings {params.settings:q} --seeds {params.seeds} --varies '{params.varies}'"
            " --threads {threads} --device {params.device} {params.plugin:q} --fingerprint {params.fingerprint} --output {params.folder:q} 2> {log:q}"
