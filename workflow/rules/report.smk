rule collect:
    input:
        parts=collected,
    output:
        out="<results>/{table}.parquet",
    log:
        "<logs>/collect-{table}.log",
    wildcard_constraints:
        table="|".join(COLLECTED),
    conda:
        "../../environment.yml"
    params:
        table=named("table"),
        code=code("collect/{table}"),
    message:
        "Collect {wildcards.table}"
    script:
        "../scripts/stage.py"


rule gate:
    input:
        metrics="<results>/metrics.parquet",
        composition="<results>/composition.parquet",
        retrained=[
            of_run(run, "cost.parquet")
            for run in STUDY.runs
            if (run.method, run.scope) == REFERENCE
        ],
    output:
        out="<results>/gates.parquet",
    log:
        "<logs>/gate.log",
    conda:
        "../../environment.yml"
    params:
        settings=settings("gate"),
        confidence=STUDY.config["settings"]["analysis"]["confidence"],
        code=code("gate"),
    message:
        "Gates"
    script:
        "../scripts/stage.py"


rule analyse:
    input:
        metrics="<results>/metrics.parquet",
        gates="<results>/gates.parquet",
        radii="<results>/radii.parquet",
        trajectory="<results>/trajectory.parquet",
    output:
        comparisons="<results>/comparisons.parquet",
        correlations="<results>/correlations.parquet",
        conjectures="<results>/conjectures.parquet",
    log:
        "<logs>/analyse.log",
    conda:
        "../../environment.yml"
    resources:
        **cpu(60, mem_mb=4000),
    params:
        settings=settings("analysis"),
        code=code("analyse"),
    message:
        "Compare with exact retraining, correlate, judge the conjectures"
    script:
        "../scripts/stage.py"


rule figure:
    input:
        unpack(figured),
    output:
        pdf="<results>/figures/{figure}.pdf",
        png=report(
            "<results>/figures/{figure}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        csv="<results>/figures/{figure}.csv",
    log:
        "<logs>/figures/{figure}.log",
    conda:
        "../../environment.yml"
    params:
        name=named("figure"),
        settings=settings("report"),
        code=code("figure/{figure}"),
    message:
        "Figure: {wildcards.figure}"
    script:
        "../scripts/stage.py"


rule table:
    input:
        comparisons="<results>/comparisons.parquet",
        conjectures="<results>/conjectures.parquet",
        gates="<results>/gates.parquet",
        failures="<results>/failures.parquet",
        radii="<results>/radii.parquet",
        composition="<results>/composition.parquet",
    output:
        csv=report(
            "<results>/tables/main.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "main"},
        ),
        markdown="<results>/tables/main.md",
        latex="<results>/tables/main.tex",
        verdicts="<results>/tables/verdicts.md",
    log:
        "<logs>/table.log",
    conda:
        "../../environment.yml"
    params:
        settings=settings("report"),
        code=code("table"),
    message:
        "Main table"
    script:
        "../scripts/stage.py"
