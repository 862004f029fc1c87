# One job per cell: a point of an experiment's grid with all its seeds. Jobs are given the run's folder and the cell's name:
# they read the configuration that the run has kept. Params that no command names are there to make a cell run again.
for experiment in EXPERIMENTS:

    rule:
        name:
            f"cell_{experiment}"
        input:
            lambda wildcards, experiment=experiment: again_if_stale(experiment, wildcards),
            ancient(f"{ROOT}/config.json"),
        output:
            multiext(f"{ROOT}/cells/{experiment}/{{cell}}/", "rows.csv", "cell.json"),
        log:
            f"{ROOT}/logs/{experiment}/{{cell}}.log",
        priority: 1  # before tables and figures, which wait for the last cell of their experiment
        conda:
            "../../environment.yml"
        threads: config["threads"]
        resources:
            mem_mb=lambda wildcards, attempt, experiment=experiment: resources.memory(measured(experiment)["memory"], attempt),
            runtime=lambda wildcards, attempt, experiment=experiment: minutes(experiment, wildcards, attempt),
            gpu=int(config["device"] == "cuda"),
        params:
            root=lambda wildcards: ROOT,
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
        shell:
            "pudle cell {params.root:q} {params.experiment}/{wildcards.cell:q} --threads {threads}"
            " --fingerprint {params.fingerprint} 2> {log:q}"
