# One job per cell, a point of an experiment's grid with all its seeds. With `seeds_apart` there is one job per seed, and a local job that
# merges the seeds of a cell. A job receives the run's folder and the cell's name, and reads the configuration and the plan that the run has saved.
# `again_if_stale` compares the records of existing cells with the plan.
for experiment in EXPERIMENTS:

    rule:
        name:
            f"seed_{experiment}"
        input:
            ancient(f"{ROOT}/config.json"),
        output:
            temp(f"{ROOT}/cells/{experiment}/{{cell}}/seed-{{seed}}.pt"),
        log:
            f"{ROOT}/logs/{experiment}/{{cell}}-{{seed}}.log",
        wildcard_constraints:
            seed=r"\d+",
        priority: 1
        group:
            batch(f"seed_{experiment}")
        conda:
            "../../environment.yml"
        threads: config["threads"]
        resources:
            mem_mb=lambda wildcards, attempt, experiment=experiment: megabytes(experiment, attempt),
            runtime=lambda wildcards, attempt, experiment=experiment: minutes(experiment, wildcards, attempt, 1),
            gpu=int(config["device"] == "cuda"),
        params:
            root=lambda wildcards: ROOT,
            experiment=experiment,
            fingerprint=lambda wildcards, experiment=experiment: experiments.fingerprint(cell(experiment, wildcards)),
        shell:
            "pudle cell {params.root:q} {params.experiment}/{wildcards.cell:q} --seed {wildcards.seed} --threads {threads}"
            " --fingerprint {params.fingerprint} 2> {log:q}"

    rule:
        name:
            f"cell_{experiment}"
        input:
            lambda wildcards, experiment=experiment: again_if_stale(experiment, wildcards),
            lambda wildcards, experiment=experiment: seed_files(experiment, wildcards),
        output:
            multiext(f"{ROOT}/cells/{experiment}/{{cell}}/", "rows.csv", "cell.json"),
        log:
            f"{ROOT}/logs/{experiment}/{{cell}}.log",
        wildcard_constraints:
            cell=computed(experiment),
        priority: 1  # above tables and figures, which wait for the last cell of their experiment
        group:
            None if SEEDS_APART else batch(f"cell_{experiment}")
        localrule: SEEDS_APART
        conda:
            "../../environment.yml"
        threads: 1 if SEEDS_APART else config["threads"]
        resources:
            mem_mb=lambda wildcards, attempt, experiment=experiment: megabytes(experiment, attempt),
            runtime=lambda wildcards, attempt, experiment=experiment: minutes(experiment, wildcards, attempt),
            gpu=int(config["device"] == "cuda"),
        params:
            root=lambda wildcards: ROOT,
            experiment=experiment,
            fingerprint=lambda wildcards, experiment=experiment: experiments.fingerprint(cell(experiment, wildcards)),
        shell:
            "pudle cell {params.root:q} {params.experiment}/{wildcards.cell:q} --threads {threads}"
            " --fingerprint {params.fingerprint} 2> {log:q}"
