# pudle's workflow: config → grid → cells → rows → tables → {figures, claims, published} → report. The rules are in workflow/rules, one file per stage.
configfile: f"{workflow.basedir}/config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/cells.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/claims.smk"
include: "workflow/rules/report.smk"


report: "workflow/report/workflow.rst"


rule all:
    default_target: True
    input:
        cell_files(),
        f"{ROOT}/cells.csv",
        f"{ROOT}/claims.md",
        f"{ROOT}/published.md",
        f"{ROOT}/report/index.html",
        [f"{ROOT}/tables/{question}.csv" for question in QUESTIONS],
        [f"{ROOT}/controls/{question}.csv" for question in filter(experiments.has_controls, QUESTIONS)],
        [figure_files(question) for question in QUESTIONS],
