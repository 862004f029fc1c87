# Last of all: every file of the run with its SHA-256, and what it was made from.
rule manifest:
    input:
        products(),
        snakefile=f"{workflow.basedir}/Snakefile",
        rules=sorted(map(str, Path(workflow.basedir, "workflow", "rules").glob("*.smk"))),
        plugins=[str(Path(path).expanduser()) for path in config.get("plugins", [])],
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
