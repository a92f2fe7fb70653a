rule shadow_split:
    input:
        dataset="<results>/dataset.parquet",
    output:
        half=f"{SHADOW}/half.parquet",
        split=f"{SHADOW}/split.parquet",
    log:
        f"{SHADOW_LOG}/split.log",
    conda:
        "../../environment.yml"
    params:
        shadow=lambda wildcards: int(wildcards.shadow),
        settings=settings("shadow_split"),
        code=code("shadow_split"),
    message:
        "Split: what shadow {wildcards.shadow} learns and forgets"
    script:
        "../scripts/stage.py"


# The weights stay: were they temporary, a method added later would remake every method's shadows.
rule shadow_pretrain:
    input:
        dataset="<results>/dataset.parquet",
        split=f"{SHADOW}/half.parquet",
    output:
        model=f"{SHADOW}/{{arch}}/model.safetensors",
        history=f"{SHADOW}/{{arch}}/history.parquet",
        cost=f"{SHADOW}/{{arch}}/cost.parquet",
    log:
        f"{SHADOW_LOG}/{{arch}}/pretrain.log",
    conda:
        "../../environment.yml"
    resources:
        **model(training_minutes),
    params:
        run=run_of(
            SHADOW_SEED,
            forget="half{shadow}",
            method=RETRAIN,
            scope=ALL,
            seed="{shadow}",
        ),
        settings=settings("training", "arch"),
        sources=sources("training", "arch"),
        code=code("unlearn/retrain"),
    message:
        "Pretrain: {wildcards.arch}, shadow {wildcards.shadow}"
    script:
        "../scripts/stage.py"


rule shadow:
    input:
        unpack(starting(f"{SHADOW}/{{arch}}/model.safetensors")),
        unpack(chosen_settings),
        dataset="<results>/dataset.parquet",
        split=f"{SHADOW}/split.parquet",
    output:
        out=f"{SHADOW}/{{arch}}/{{method}}-{{scope}}.parquet",
    log:
        f"{SHADOW_LOG}/{{arch}}/{{method}}-{{scope}}.log",
    conda:
        "../../environment.yml"
    resources:
        **model(method_minutes),
    params:
        run=run_of(SHADOW_SEED, forget="shadow{shadow}", seed="{shadow}"),
        number=lambda wildcards: int(wildcards.shadow),
        settings=settings("method", "arch", "method"),
        code=code("shadow/{method}"),
    message:
        "Shadow {wildcards.shadow}: {wildcards.method} on {wildcards.scope} layers of {wildcards.arch}"
    script:
        "../scripts/stage.py"


rule ulira:
    input:
        shadows=collect(
            f"{SHADOW}/{{arch}}/{{method}}-{{scope}}.parquet",
            shadow=STUDY.shadows,
            allow_missing=True,
        ),
        exact=collect(
            f"{SHADOW}/{{arch}}/{RETRAIN}-{ALL}.parquet",
            shadow=STUDY.shadows,
            allow_missing=True,
        ),
    output:
        out="<results>/ulira/{arch}/{method}-{scope}.parquet",
    log:
        "<logs>/ulira/{arch}/{method}-{scope}.log",
    conda:
        "../../environment.yml"
    resources:
        **cpu(30),
    params:
        confidence=STUDY.config["settings"]["analysis"]["confidence"],
        code=code("ulira"),
    message:
        "U-LiRA: {wildcards.method}-{wildcards.scope}, {wildcards.arch}"
    script:
        "../scripts/stage.py"
