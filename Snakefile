# Limits this machine (`--resources gpu=1`), not a cluster.
resource_scopes:
    gpu="local",


include: "workflow/rules/common.smk"
include: "workflow/rules/resources.smk"


pathvars:
    results=RESULTS,
    logs=LOGS,


include: "workflow/rules/data.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/ulira.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/audit.smk"


rule all:
    default_target: True
    input:
        collect(
            "<results>/figures/{figure}.{kind}",
            figure=STUDY.config["figures"],
            kind=["pdf", "png", "csv"],
        ),
        collect("<results>/tables/main.{kind}", kind=["csv", "md", "tex"]),
        "<results>/tables/verdicts.md",
        collect("<results>/{table}.parquet", table=STUDY.tables),
