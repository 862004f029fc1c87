# The manifest, written last: every file of the run with its SHA-256 and the files it was made from.
rule manifest:
    input:
        again_if_unknown(f"{ROOT}/manifest.json"),
        products(),
    output:
        f"{ROOT}/manifest.json",
        f"{ROOT}/ro-crate-metadata.json",
    log:
        f"{ROOT}/logs/manifest.log",
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        root=lambda wildcards: ROOT,
        config=hashlib.sha256(files.canonical_json(config).encode()).hexdigest(),
        snakefile=lambda wildcards: f"{BASE}/Snakefile",
        sources=contents(f"{BASE}/Snakefile", f"{BASE}/workflow/rules/*.smk", *PLUGINS),
        fingerprint=code("audit.manifest"),
    shell:
        "pudle manifest --root {params.root:q} --snakefile {params.snakefile:q} 2> {log:q}"
