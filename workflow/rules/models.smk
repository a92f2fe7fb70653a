# No input of what trains, so that another scope remakes no model: jobs that train look at it themselves (the runner). An
# ancient() input would not do: of what is downstream of a job that runs again, Snakemake then plans nothing in that run,
# whatever its own reasons (its issue 4166; 9.27).
rule layers:
    input:
        dataset="<results>/dataset.parquet",
    output:
        out="<results>/layers.parquet",
    log:
        "<logs>/layers.log",
    priority: 1
    conda:
        "../../environment.yml"
    resources:
        **model(15),
    params:
        settings=settings("layers"),
        sources=sources("layers"),
        code=code("layers"),
    message:
        "Layers of every scope and architecture"
    script:
        "../scripts/stage.py"


rule pretrain:
    input:
        dataset="<results>/dataset.parquet",
    output:
        model=f"{PRETRAINED}/model.safetensors",
        history=f"{PRETRAINED}/history.parquet",
        cost=f"{PRETRAINED}/cost.parquet",
        snapshots=f"{PRETRAINED}/snapshots.safetensors",
    log:
        "<logs>/pretrained/{arch}/seed{seed}.log",
    conda:
        "../../environment.yml"
    resources:
        **model(training_minutes),
    params:
        run=run_of(forget="none", method=PRETRAINING, scope=ALL),
        settings=settings("training", "arch"),
        sources=sources("training", "arch"),
        follow=STUDY.config["settings"]["follow"],
        code=code("pretrain"),
    message:
        "Pretrain: {wildcards.arch}, seed {wildcards.seed}"
    script:
        "../scripts/stage.py"


# In place of pretraining; before what trains, so that weights that are not the model's stop a study at once.
rule adopt_original:
    input:
        dataset="<results>/dataset.parquet",
    output:
        model=f"{PRETRAINED}/model.safetensors",
        history=f"{PRETRAINED}/history.parquet",
        cost=f"{PRETRAINED}/cost.parquet",
        snapshots=f"{PRETRAINED}/snapshots.safetensors",
    log:
        "<logs>/pretrained/{arch}/seed{seed}.log",
    wildcard_constraints:
        arch=one_of(a for a in STUDY.config["archs"] if STUDY.arch(a)["weights"]),
        seed=one_of(STUDY.config["seeds"]),
    priority: 1
    conda:
        "../../environment.yml"
    resources:
        **model(30),
    params:
        run=run_of(forget="none", method=PRETRAINING, scope=ALL),
        weights=originals,
        sources=lambda wildcards: [
            *STUDY.model_sources(wildcards.arch),
            originals(wildcards),
        ],
        settings=lambda wildcards: STUDY.adoption_settings(wildcards.arch, PRETRAINING),
        code=code("adopt"),
    message:
        "Adopt: the original {wildcards.arch}, seed {wildcards.seed}"
    script:
        "../scripts/stage.py"


ruleorder: adopt_original > pretrain


rule adopt_retrained:
    input:
        dataset="<results>/dataset.parquet",
        split="<results>/splits/{forget}.parquet",
    output:
        model=f"{RUN}/model.safetensors",
        history=f"{RUN}/history.parquet",
        cost=f"{RUN}/cost.parquet",
    log:
        f"{RUN_LOG}/unlearn.log",
    wildcard_constraints:
        arch=one_of(a for a in STUDY.config["archs"] if STUDY.arch(a)["retrained"]),
        method=RETRAIN,
        scope=ALL,
        seed=one_of(STUDY.config["seeds"]),
    priority: 1
    conda:
        "../../environment.yml"
    resources:
        **model(30),
    params:
        run=run_of(),
        weights=made_elsewhere,
        sources=lambda wildcards: [
            *STUDY.model_sources(wildcards.arch),
            made_elsewhere(wildcards),
        ],
        settings=settings("adoption", "arch", "method"),
        code=code("adopt"),
    message:
        "Adopt: {wildcards.method} of {wildcards.arch}, {wildcards.forget}, seed {wildcards.seed}"
    script:
        "../scripts/stage.py"


use rule adopt_retrained as adopt_external with:
    wildcard_constraints:
        arch=one_of(STUDY.config["archs"]),
        method=one_of(STUDY.external),
        scope=ALL,
        seed=one_of(STUDY.config["seeds"]),


ruleorder: adopt_retrained > retrain


rule retrain:
    input:
        unpack(starting(f"{PRETRAINED}/model.safetensors")),
        dataset="<results>/dataset.parquet",
        split="<results>/splits/{forget}.parquet",
    output:
        model=f"{RUN}/model.safetensors",
        history=f"{RUN}/history.parquet",
        cost=f"{RUN}/cost.parquet",
    log:
        f"{RUN_LOG}/unlearn.log",
    wildcard_constraints:
        method=RETRAIN,
    conda:
        "../../environment.yml"
    resources:
        **model(training_minutes),
    params:
        run=run_of(),
        settings=settings("training", "arch"),
        sources=sources("training", "arch"),
        code=code("unlearn/{method}"),
    message:
        "Retrain: {wildcards.arch} without {wildcards.forget}, {wildcards.scope} layers, seed {wildcards.seed}"
    script:
        "../scripts/stage.py"


rule tune:
    input:
        dataset="<results>/dataset.parquet",
        split="<results>/splits/{forget}.parquet",
        original=f"<results>/pretrained/{{arch}}/seed{TUNING_SEED}/model.safetensors",
        reference=f"<results>/runs/{{arch}}/{{forget}}/retrain-all/seed{TUNING_SEED}/predictions.parquet",
    output:
        out="<results>/tuning/{arch}/{forget}/{method}.parquet",
    log:
        "<logs>/tuning/{arch}/{forget}/{method}.log",
    conda:
        "../../environment.yml"
    resources:
        **model(tuning_minutes),
    params:
        run=run_of(scope=ALL, seed=str(TUNING_SEED)),
        settings=settings("tuning", "arch", "method"),
        code=code("tune/{method}"),
    message:
        "Tune: {wildcards.method} on {wildcards.arch}, {wildcards.forget}"
    script:
        "../scripts/stage.py"


rule unlearn:
    input:
        unpack(starting(f"{PRETRAINED}/model.safetensors")),
        unpack(chosen_settings),
        dataset="<results>/dataset.parquet",
        split="<results>/splits/{forget}.parquet",
    output:
        model=f"{RUN}/model.safetensors",
        history=f"{RUN}/history.parquet",
        cost=f"{RUN}/cost.parquet",
    log:
        f"{RUN_LOG}/unlearn.log",
    wildcard_constraints:
        method="|".join(re.escape(m) for m in STUDY.methods if m != RETRAIN),
    conda:
        "../../environment.yml"
    resources:
        **model(method_minutes),
    params:
        run=run_of(),
        settings=settings("method", "arch", "method"),
        code=code("unlearn/{method}"),
    message:
        "Unlearn: {wildcards.method} on {wildcards.scope} layers of {wildcards.arch}, {wildcards.forget}, seed {wildcards.seed}"
    script:
        "../scripts/stage.py"
