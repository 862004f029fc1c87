# What the run is to have made, and last of all its manifest: every file with its SHA-256, and what it was made from.
def products():
    return [
        cell_files(),
        [f"{ROOT}/{name}" for name in ("cells.csv", "claims.md", "published.md", "report/index.html")],
        [f"{ROOT}/tables/{question}.csv" for question in QUESTIONS],
        [f"{ROOT}/controls/{question}.csv" for question in filter(experiments.has_controls, QUESTIONS)],
        [figure_files(question) for question in QUESTIONS],
    ]


rule manifest:
    input:
        products(),
        snakefile=f"{workflow.basedir}/Snakefile",
        rules=sorted(map(str, Path(workflow.basedir, "workflow", "rules").glob("*.smk"))),
        plugins=config.get("plugins", []),
    output:
        f"{ROOT}/manifest.json",
        f"{ROOT}/ro-crate-metadata.json",
    log:
        f"{ROOT}/logs/manifest.log",
    conda:
        "../../environment.yml"
    params:
        root=lambda wildcards: ROOT,
        config=hashlib.sha256(files.canonical_json(config).encode()).hexdigest(),
        fingerprint=code("audit.manifest"),
    shell:
        "pudle manifest --root {params.root:q} --snakefile {input.snakefile:q} 2> {log:q}"
