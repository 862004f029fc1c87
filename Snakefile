# pudle's workflow: config → grid → cells → rows → tables → {figures, claims, published} → report → manifest. The rules are in workflow/rules, one file per stage.
BASE = str(workflow.current_basedir)  # the folder of this file, also if another workflow imports these rules as a module


configfile: f"{BASE}/config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/reference.smk"
include: "workflow/rules/cells.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/claims.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/audit.smk"


report: "workflow/report/workflow.rst"


rule all:
    default_target: True
    input:
        products(),
        rules.manifest.output,


# Every figure alone: `snakemake figures`.
rule figures:
    input:
        [figure_files(experiment) for experiment in EXPERIMENTS],
