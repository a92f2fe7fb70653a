rule dataset:
    output:
        out="<results>/dataset.parquet",
    log:
        "<logs>/dataset.log",
    conda:
        "../../environment.yml"
    params:
        settings=settings("dataset"),
        code=code("dataset"),
    message:
        "Dataset: {params.settings[name]}"
    script:
        "../scripts/dataset.py"


rule grid:
    input:
        unpack(calibration),
    output:
        out="<results>/grid.parquet",
    log:
        "<logs>/grid.log",
    conda:
        "../../environment.yml"
    resources:
        **(model(60) if STUDY.calibration else cpu(15)),
    params:
        settings=settings("grid"),
        code=code("grid"),
    message:
        "Radii of attacks"
    script:
        "../scripts/grid.py"


rule split:
    input:
        forget_list,
        dataset="<results>/dataset.parquet",
    output:
        out="<results>/splits/{forget}.parquet",
    log:
        "<logs>/splits/{forget}.log",
    conda:
        "../../environment.yml"
    params:
        settings=settings("split", "forget"),
        code=code("split"),
    message:
        "Split: what {wildcards.forget} forgets"
    script:
        "../scripts/split.py"
