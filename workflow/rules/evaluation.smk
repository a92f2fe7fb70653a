rule predict:
    input:
        model=f"{RUN}/model.safetensors",
        dataset="<results>/dataset.parquet",
        split="<results>/splits/{forget}.parquet",
    output:
        out=f"{RUN}/predictions.parquet",
    log:
        f"{RUN_LOG}/predict.log",
    conda:
        "../../environment.yml"
    resources:
        **model(30),
    params:
        run=run_of(),
        code=code("predict"),
    message:
        "Predict: {wildcards.method}-{wildcards.scope}, {wildcards.arch}, {wildcards.forget}, seed {wildcards.seed}"
    script:
        "../scripts/stage.py"


rule probe:
    input:
        model=f"{RUN}/model.safetensors",
        dataset="<results>/dataset.parquet",
        split="<results>/splits/{forget}.parquet",
    output:
        out=f"{RUN}/activations.parquet",
    log:
        f"{RUN_LOG}/probe.log",
    conda:
        "../../environment.yml"
    resources:
        **model(30),
    params:
        run=run_of(),
        settings=settings("probe"),
        code=code("probe"),
    message:
        "Probe: {wildcards.method}-{wildcards.scope}, {wildcards.arch}, {wildcards.forget}, seed {wildcards.seed}"
    script:
        "../scripts/stage.py"


rule features:
    input:
        model=f"{RUN}/model.safetensors",
        dataset="<results>/dataset.parquet",
        split="<results>/splits/{forget}.parquet",
    output:
        out=f"{RUN}/features.parquet",
    log:
        f"{RUN_LOG}/features.log",
    conda:
        "../../environment.yml"
    resources:
        **model(30),
    params:
        run=run_of(),
        settings=settings("features"),
        code=code("features"),
    message:
        "Features: {wildcards.method}-{wildcards.scope}, {wildcards.arch}, {wildcards.forget}, seed {wildcards.seed}"
    script:
        "../scripts/stage.py"


rule relearn:
    input:
        model=f"{RUN}/model.safetensors",
        dataset="<results>/dataset.parquet",
        split="<results>/splits/{forget}.parquet",
    output:
        out=f"{RUN}/relearning.parquet",
    log:
        f"{RUN_LOG}/relearn.log",
    conda:
        "../../environment.yml"
    resources:
        **model(30),
    params:
        run=run_of(),
        settings=settings("relearn", "arch"),
        code=code("relearn"),
    message:
        "Relearn: {wildcards.method}-{wildcards.scope}, {wildcards.arch}, {wildcards.forget}, seed {wildcards.seed}"
    script:
        "../scripts/stage.py"


rule follow:
    input:
        model=f"{PRETRAINED}/model.safetensors",
        snapshots=f"{PRETRAINED}/snapshots.safetensors",
        dataset="<results>/dataset.parquet",
    output:
        out=f"{PRETRAINED}/trajectory.parquet",
    log:
        "<logs>/pretrained/{arch}/seed{seed}-follow.log",
    conda:
        "../../environment.yml"
    resources:
        **model(60),
    params:
        run=run_of(forget="none", method=PRETRAINING, scope=ALL),
        settings=settings("probe"),
        code=code("follow"),
    message:
        "Follow: the fairness-gap along pretraining of {wildcards.arch}, seed {wildcards.seed}"
    script:
        "../scripts/stage.py"


rule attack:
    input:
        model=f"{RUN}/model.safetensors",
        dataset="<results>/dataset.parquet",
        split="<results>/splits/{forget}.parquet",
        radii="<results>/radii.parquet",
    output:
        out=f"{RUN}/adversarial-{{attack}}.parquet",
    log:
        f"{RUN_LOG}/attack-{{attack}}.log",
    conda:
        "../../environment.yml"
    resources:
        **model(120),
    params:
        run=run_of(),
        attack=named("attack"),
        settings=settings("attack", "attack"),
        code=code("attack/{attack}"),
    message:
        "Attack by {wildcards.attack}: {wildcards.method}-{wildcards.scope}, {wildcards.arch}, {wildcards.forget}, seed {wildcards.seed}"
    script:
        "../scripts/stage.py"


rule measure:
    input:
        unpack(references),
        predictions=f"{RUN}/predictions.parquet",
        adversarial=collect(
            f"{RUN}/adversarial-{{attack}}.parquet",
            attack=STUDY.config["attacks"],
            allow_missing=True,
        ),
        activations=f"{RUN}/activations.parquet",
        cost=f"{RUN}/cost.parquet",
    output:
        out=f"{RUN}/metrics.parquet",
    log:
        f"{RUN_LOG}/measure.log",
    conda:
        "../../environment.yml"
    resources:
        **cpu(15),
    params:
        run=run_of(),
        metrics=STUDY.config["metrics"],
        code=code("measure"),
    message:
        "Measure: {wildcards.method}-{wildcards.scope}, {wildcards.arch}, {wildcards.forget}, seed {wildcards.seed}"
    script:
        "../scripts/stage.py"
