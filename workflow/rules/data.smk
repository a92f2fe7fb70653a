rule dataset:
    output:
        out="<results>/dataset.parquet",
    log:
        "<logs>/dataset.log",
    conda:
        "../../environment.yml"
    params:
        settings=settings("dataset"),
        sources=sources("dataset"),
        code=code("dataset"),
    message:
        "Dataset: {params.settings[name]}"
    script:
        "../scripts/stage.py"


rule radii:
    input:
        unpack(calibration),
    output:
        out="<results>/radii.parquet",
    log:
        "<logs>/radii.log",
    conda:
        "../../environment.yml"
    resources:
        **(model(60) if STUDY.calibration else cpu(15)),
    params:
        settings=settings("radii"),
        code=code("radii"),
    message:
        "Radii of attacks"
    script:
        "../scripts/stage.py"


# Before anything is trained: a forget set that cannot be is an error.
rule split:
    input:
        dataset="<results>/dataset.parquet",
    output:
        out="<results>/splits/{forget}.parquet",
        composition="<results>/splits/{forget}+composition.parquet",
    log:
        "<logs>/splits/{forget}.log",
    priority: 2
    conda:
        "../../environment.yml"
    params:
        forget=named("forget"),
        settings=settings("split", "forget"),
        sources=sources("split", "forget"),
        code=code("split"),
    message:
        "Split: what {wildcards.forget} forgets"
    script:
        "../scripts/stage.py"
