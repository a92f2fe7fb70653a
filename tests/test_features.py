"""Features at every layer group, and the metrics that read them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CLASSES, image_set
from sklearn.datasets import load_digits
from torch import nn

from unlearn.api.metrics import Evidence, Features, MetricError, References, Row, Undefined
from unlearn.evaluation.activations import ProbeError
from unlearn.evaluation.features import FeatureError, average, channels_last, ends, layer_features
from unlearn.io import tables
from unlearn.io.schema.features import FEATURES
from unlearn.metrics import cka, divergence, idi, linear_probe
from unlearn.models import checkpoint
from unlearn.models.classifier import Spec, create, head
from unlearn.models.images import ImageSet, to_float
from unlearn.run import Run
from unlearn.stages import features as stage
from unlearn.stages.measure import _features as measured_features
from unlearn.stages.measure import frame

# --- the hooks ------------------------------------------------------------------------------------


def stepwise(net, x):
    """Layer → features, by calling the parts of the two networks of conftest one after the other."""
    net = net.net
    if hasattr(net, "layer1"):
        x = net.maxpool(net.act1(net.bn1(net.conv1(x))))
        found = [x.mean((2, 3))]
        for stage_ in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage_(x)
            found.append(x.mean((2, 3)))
    else:
        x = net.norm_pre(net.patch_drop(net._pos_embed(net.patch_embed(x))))
        found = [x.mean(1)]
        for block in net.blocks:
            x = block(x)
            found.append(x.mean(1))
        x = net.norm(x)
        found[-1] = x.mean(1)  # timm's last block has the final norm in its group
    names = [*(f"group {i}" for i in range(len(found))), "penultimate"]
    return dict(zip(names, [*found, net.forward_head(x, pre_logits=True)], strict=True))


@pytest.mark.parametrize("batch_size", [256, 5])
@torch.no_grad()
def test_features_are_those_of_the_forward_pass(net, batch_size):
    images = image_set(22)
    net.train()
    net(torch.rand(32, *net.spec.shape, generator=torch.Generator().manual_seed(9)))
    found = layer_features(net, images, batch_size)
    expected = stepwise(net, (to_float(images.pixels) - net.mean) / net.std)
    assert list(found) == list(expected)
    for layer, x in expected.items():
        assert found[layer].dtype == np.float32
        np.testing.assert_allclose(found[layer], x.numpy(), rtol=1e-5, atol=1e-6, err_msg=layer)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


@torch.no_grad()
def test_the_head_reads_the_penultimate_features(net):
    images = image_set(6)
    logits = head(net)(torch.from_numpy(layer_features(net, images)["penultimate"]))
    torch.testing.assert_close(logits, net(to_float(images.pixels)))


def test_a_change_of_the_head_changes_no_features(net):
    before = layer_features(net, image_set(6))
    with torch.no_grad():
        head(net).weight.normal_()
    for layer, x in layer_features(net, image_set(6)).items():
        np.testing.assert_array_equal(x, before[layer])


@pytest.mark.parametrize(
    ("shape", "square", "named", "last"),
    [
        ((2, 4, 4, 6), True, False, True),  # [B, H, W, C], whatever the model says
        ((2, 6, 4, 4), True, True, False),
        ((2, 4, 4, 4), True, True, True),  # nothing but its word
        ((2, 4, 4, 4), True, False, False),
        ((2, 4, 4, 6), False, False, False),  # 4 channels of maps 4 × 6
        ((2, 9, 6), True, False, True),
        ((2, 6), True, False, True),
    ],
)
def test_where_the_channels_are(shape, square, named, last):
    assert channels_last(torch.zeros(shape), square, named, "") == last


def test_features_of_unknown_shape_are_refused():
    with pytest.raises(FeatureError, match=r"layer 'group 1' gives \(2, 3, 4, 5, 6\)"):
        channels_last(torch.zeros(2, 3, 4, 5, 6), True, False, "group 1")


def test_patches_in_the_batch_are_positions():
    """As MobileViT folds them: four patches of each of three images."""
    x = torch.arange(12.0).reshape(12, 1, 1)
    assert average(x, True, 3, "").tolist() == [[1.5], [5.5], [9.5]]
    with pytest.raises(ProbeError, match="batch of 12 for 5 images"):
        average(x, True, 5, "group 2")


def test_a_group_without_a_module_is_refused(net, monkeypatch):
    monkeypatch.setattr("unlearn.evaluation.features.groups", lambda model: {"net.nothing": 0, "net.head": 1})
    with pytest.raises(FeatureError, match="no module of group 0 runs by itself"):
        ends(net)


# --- the stage ------------------------------------------------------------------------------------

RUN = Run("net", "ten", "cf", "all", 0)
SAMPLE = {"forget": 4, "retain": 8, "test": None}


@pytest.fixture
def write(dataset, split, tmp_path):
    """``write(net, **run)``: the path of a table of features of the network."""

    def made(net, sample=SAMPLE, **run):
        checkpoint.save(net, tmp_path / "model.safetensors", {})
        out = str(tmp_path / "features.parquet")
        stage.features(
            Run(**{**vars(RUN), **run}), str(tmp_path / "model.safetensors"), dataset, split, out, sample, "cpu"
        )
        return out

    return made


def test_the_stage_writes_the_features_of_each_layer(net, write):
    path = write(net)
    found = tables.read(FEATURES, path).to_pandas()
    assert found.groupby("layer").size().eq(4 + 8 + 16).all()
    depth = found.drop_duplicates("layer").set_index("layer")["depth"]
    assert depth.to_dict() == {layer: i for i, layer in enumerate(layer_features(net, image_set()))}
    assert set(found["label"]) == set(range(CLASSES))
    widths = found.groupby("layer")["features"].agg(lambda column: column.map(len).unique().tolist())
    assert widths.to_dict() == {layer: [x.shape[1]] for layer, x in layer_features(net, image_set()).items()}
    described = tables.metadata(path)
    assert described["settings"] == SAMPLE
    assert set(described["clipped"].values()) == {0}


def test_the_sample_is_of_the_split_alone(net, write):
    one, other = (
        tables.read(FEATURES, write(model, seed=seed), ["id", "role", "layer"])
        for model, seed in ((net, 0), (create(net.spec, 5), 7))
    )
    assert one.equals(other)


def test_what_float16_cannot_hold_is_clipped_and_counted(net, write, caplog):
    with torch.no_grad():
        for parameter in net.net.parameters():
            parameter.mul_(1e3)
    huge = layer_features(net, image_set(40, 0, 0))
    assert any((np.abs(x) > stage.LARGEST).any() for x in huge.values()), "else nothing is tested"
    path = write(net)
    clipped = tables.metadata(path)["clipped"]
    assert sum(clipped.values())
    found = tables.read(FEATURES, path)
    for layer, count in clipped.items():
        x = tables.matrix(found.filter(np.array(found["layer"].to_pylist()) == layer)["features"])
        assert np.isfinite(x).all()
        assert (np.abs(x) == stage.LARGEST).sum() == count
    assert "beyond 65504 are clipped" in caplog.text


def test_features_that_are_no_numbers_are_refused(net, write):
    with torch.no_grad():
        for parameter in net.net.parameters():
            parameter.mul_(1e30)
    with pytest.raises(FeatureError, match=r"features of layer 'group \d' are not finite"):
        write(net)


# --- CKA ------------------------------------------------------------------------------------------


def by_traces(x, y):
    """CKA by the unbiased HSIC of Song et al. 2012, eq. 5."""
    n, one = len(x), np.ones(len(x))

    def hsic(k, l):  # noqa: E741
        return (
            np.trace(k @ l)
            + (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
            - 2 / (n - 2) * (one @ k @ l @ one)
        ) / (n * (n - 3))

    k, l = ((z @ z.T) * (1 - np.eye(n)) for z in (x.astype(float), y.astype(float)))  # noqa: E741
    return hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l))


def kornblith(x, y):
    """Linear CKA with the biased HSIC, by features (Kornblith et al. 2019, eq. 1 and §3)."""
    x, y = x - x.mean(0), y - y.mean(0)
    return np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(("n", "width"), [(5, 3), (30, 8), (30, 200)])
def test_cka_by_traces(rng, n, width):
    x = rng.normal(size=(n, width)) + 3
    y = np.tanh(x @ rng.normal(size=(width, 6))) + rng.normal(size=(n, 6))
    assert cka.cka(x, y) == pytest.approx(by_traces(x, y), abs=1e-9)


def test_cka_is_kornbliths_where_images_are_many(rng):
    x = rng.normal(size=(2000, 4))
    y = x @ rng.normal(size=(4, 5)) + rng.normal(size=(2000, 5))
    assert cka.cka(x, y) == pytest.approx(kornblith(x, y), abs=0.01)


def test_cka_knows_neither_rotation_nor_scale_nor_offset(rng):
    x, y = rng.normal(size=(40, 6)), rng.normal(size=(40, 9))
    y[:, :3] += x[:, :3]
    turned = 7 * x @ np.linalg.qr(rng.normal(size=(6, 6)))[0] - 100
    assert cka.cka(turned, y) == pytest.approx(cka.cka(x, y), abs=1e-9)
    assert cka.cka(turned, x) == pytest.approx(1)
    assert cka.cka(x, x) == 1
    assert cka.cka(x, y) == pytest.approx(cka.cka(y, x))
    stretched = x * [1, 1, 1, 1, 1, 20]
    assert cka.cka(x, stretched) < 0.9, "it does know how features are weighted"


@pytest.mark.parametrize(("width", "biased"), [(50, 0.5), (1000, 0.95)])
def test_unrelated_features_have_no_cka(rng, width, biased):
    """On average; the biased estimator takes their number for likeness."""
    pairs = [rng.normal(size=(2, 50, width)) for _ in range(20)]
    assert np.mean([cka.cka(*pair) for pair in pairs]) == pytest.approx(0, abs=0.02)
    assert np.mean([kornblith(*pair) for pair in pairs]) == pytest.approx(biased, abs=0.02)


def test_cka_needs_images_that_differ(rng):
    with pytest.raises(Undefined, match="3 images; an unbiased CKA needs 4"):
        cka.cka(*rng.normal(size=(2, 3, 5)))
    for constant in (0.0, 1e6):
        with pytest.raises(Undefined, match="alike for all images, so CKA is not defined"):
            cka.cka(np.full((6, 5), constant, np.float32), rng.normal(size=(6, 5)))


# --- evidence -------------------------------------------------------------------------------------


def evidence(images, layers, logits=None):
    """A run that has features, and predictions of the same images."""
    logits = np.zeros((len(images), 10), np.float32) if logits is None else logits
    return Evidence(images, logits, features=Features(images, {k: x.astype(np.float32) for k, x in layers.items()}))


def told(rows):
    """Key → value."""
    return {tuple(k for k in (row.metric, row.role, row.layer) if k): row.value for row in rows}


def reasons(rows):
    """Why rows have no value; all of them must have none."""
    rows = list(rows)
    assert all(np.isnan(row.value) for row in rows)
    return {row.reason for row in rows}


def imaginary(count=60, classes=3):
    """As many retain as forget images, and test images, of classes in turn."""
    role = np.repeat(["retain", "forget", "test"], count)
    return pd.DataFrame({"id": np.arange(3 * count), "role": role, "label": np.arange(3 * count) % classes})


@pytest.mark.parametrize("change", [{"label": 1}, {"role": "retain"}, {"id": 999}])
def test_references_have_the_same_images(rng, change):
    images = imaginary()
    x = rng.normal(size=(len(images), 4))
    other = images.copy()
    other.loc[66, list(change)] = list(change.values())
    with pytest.raises(MetricError, match="of other images in the reference"):
        evidence(images, {"a": x}).features_beside(evidence(other, {"a": x}), "forget")
    with pytest.raises(MetricError, match="features are of layers a, the reference's of others"):
        evidence(images, {"a": x}).features_beside(evidence(images, {"b": x}), "forget")


def test_a_role_without_features_is_named(rng):
    images = imaginary()
    run = evidence(images, {"a": rng.normal(size=(len(images), 4))})
    found = run.features.images["role"] != "test"
    less = Evidence(run.predictions, run.logits, features=Features(images[found], {"a": np.zeros((120, 4))}))
    with pytest.raises(MetricError, match="no features for role 'test'"):
        less.features_of("retain", "test")


# --- probes ---------------------------------------------------------------------------------------


def test_halves_have_the_same_share_of_every_class(rng):
    """Also where classes take turns by id, as in a data set that lists them so."""
    images = imaginary(61, 4).sample(frac=1, random_state=0, ignore_index=True)
    half = linear_probe.halves(Features(images, {}))
    sizes = images.assign(half=half).groupby(["role", "label", "half"]).size().unstack()
    assert (sizes[0] - sizes[1]).abs().max() <= 1
    of_role = images.assign(half=half).groupby(["role", "half"]).size().unstack()
    assert (of_role[0] - of_role[1]).abs().max() <= 1
    ordered = images.sort_values("id")
    again = linear_probe.halves(Features(ordered.reset_index(drop=True), {}))
    np.testing.assert_array_equal(half[ordered.index], again)


def test_what_is_plain_is_read_and_what_is_absent_is_guessed(rng):
    images = imaginary(300)
    plain = np.eye(3)[images["label"]] + 0.01 * rng.normal(size=(900, 3))
    absent = rng.normal(size=(900, 400))  # enough to learn a half by heart
    found = told(linear_probe.compute(evidence(images, {"plain": plain, "absent": absent})))
    assert found["probe_accuracy", "forget", "plain"] == found["probe_accuracy", "test", "plain"] == 1
    assert found["probe_accuracy", "forget", "absent"] == pytest.approx(1 / 3, abs=0.08)


def test_probe_accuracy_by_hand():
    """A feature of two classes, with one forget image of each half on the wrong side, and one test image in three."""
    retain = pd.DataFrame({"id": range(8), "role": "retain", "label": [0, 1] * 4, "x": [-1.0, 1] * 4})
    forget = pd.DataFrame({"id": range(8, 16), "role": "forget", "label": [0, 1] * 4, "x": [-1.0, 1] * 4})
    forget.loc[[0, 3], "x"] *= -1  # ids 8 (half 0) and 11 (half 1)
    test = pd.DataFrame({"id": range(16, 19), "role": "test", "label": [0, 1, 1], "x": [-1.0, 1, -1]})
    images = pd.concat([retain, forget, test], ignore_index=True)
    found = told(linear_probe.compute(evidence(images, {"a": images[["x"]].to_numpy()})))
    assert found == {
        ("probe_accuracy", "forget", "a"): 0.75,
        ("probe_accuracy", "test", "a"): pytest.approx(2 / 3),
    }


def test_a_class_that_is_forgotten_whole_is_not_guessed_for_want_of_features(rng):
    """Half of the sample is of that class."""
    images = imaginary(300, 9)
    images["label"] = np.where(images["role"] == "forget", 9, images["label"])
    found = told(linear_probe.compute(evidence(images, {"absent": rng.normal(size=(900, 3))})))
    assert found["probe_accuracy", "forget", "absent"] < 0.4


def test_probes_need_two_classes_and_two_forget_images(rng):
    images, x = imaginary(), {"a": rng.normal(size=(180, 2))}
    assert reasons(linear_probe.compute(evidence(images.assign(label=1), x))) == {
        "a half of the images has 1 labels; a probe needs two"
    }
    one = images[(images["role"] != "forget") | (images["id"] == 60)]
    (reason,) = reasons(linear_probe.compute(evidence(one.reset_index(drop=True), {"a": x["a"][: len(one)]})))
    assert reason.startswith("there is one forget image")


def test_the_gap_is_the_mean_over_layers_on_forget_images_of_either_sign():
    def run(*shares):
        keys = [(role, layer) for role in ("forget", "test") for layer in ("a", "b")]
        found = zip(keys, shares, strict=True)
        rows = [Row("probe_accuracy", share, 10, role=role, layer=layer) for (role, layer), share in found]
        return Evidence(pd.DataFrame(), np.empty((0, 2)), metrics=frame(rows))

    own, retrain = run(0.9, 0.3, 0.0, 0.0), run(0.5, 0.5, 1.0, 1.0)
    found = told(linear_probe.compute_relative(own, References(retrain, retrain)))
    assert found["probe_gap",] == pytest.approx((0.4 + 0.2) / 2)
    assert found["probe_excess", "forget", "b"] == pytest.approx(-0.2)


def test_layers_are_in_order_of_depth(tmp_path):
    run, path = Run("net", "ten", "cf", "all", 0), tmp_path / "features.parquet"
    with tables.Writer(FEATURES, path, {}, run) as writer:
        for layer, depth, width in (("penultimate", 2, 3), ("group 0", 0, 1), ("group 1", 1, 2)):
            x = np.full((2, width), depth, np.float16)
            columns = {"id": [0, 1], "role": ["retain", "test"], "label": [0, 1], "layer": layer, "depth": depth}
            writer.write({**columns, "features": tables.rows(x)})
    found = measured_features(tables.read(FEATURES, path))
    assert list(found.layers) == ["group 0", "group 1", "penultimate"]
    assert {name: x.shape for name, x in found.layers.items()} == {
        "group 0": (2, 1),
        "group 1": (2, 2),
        "penultimate": (2, 3),
    }
    assert (found.layers["penultimate"] == 2).all()


# --- IDI ------------------------------------------------------------------------------------------


def knowing(images, rng, *strengths):
    """A run whose layers tell the forget set by so much."""
    x = {f"group {i}": rng.normal(size=(len(images), 4)) for i in range(len(strengths))}
    for of_layer, strength in zip(x.values(), strengths, strict=True):
        of_layer[:, 0] += strength * (images["role"] == "forget")
    return evidence(images, x)


def test_information_lies_below_that_of_the_distributions(rng):
    """Gaussians at distance d: the bound misses little of I = ln 2 - E[ln(1 + exp(-d (d/2 + z)))]."""
    images = imaginary(1000)
    distance, z = 2.0, rng.normal(size=10**6)
    exact = np.log(2) - np.log1p(np.exp(-distance * (distance / 2 + z))).mean()
    found = told(idi.compute(knowing(images, rng, distance, 0.0)))
    assert exact - 0.05 < found["forget_information", "group 0"] < exact + 0.02
    assert found["forget_information", "group 1"] == pytest.approx(0, abs=0.02)


def test_the_original_has_idi_1_and_retraining_0(rng):
    images = imaginary(200)
    original, retrain, run = knowing(images, rng, 2, 3), knowing(images, rng, 0, 0), knowing(images, rng, 0, 3)
    found = [
        told(idi.compute_relative(each, References(retrain, original)))["idi",] for each in (original, retrain, run)
    ]
    assert found[:2] == [1, 0]
    parts = {name: told(idi.compute(x)) for name, x in (("o", original), ("r", retrain), ("u", run))}
    sums = {name: sum(values.values()) for name, values in parts.items()}
    assert found[2] == pytest.approx((sums["u"] - sums["r"]) / (sums["o"] - sums["r"]))
    assert 0.4 < found[2] < 0.8


def test_idi_is_not_defined_where_the_original_tells_no_more(rng):
    images = imaginary(200)
    one, other = knowing(images, rng, 0, 0), knowing(images, rng, 0, 0)
    for run in (one, other):
        (reason,) = reasons(idi.compute_relative(run, References(one, other)))
        assert reason.startswith("the original's features tell")
    equal = knowing(images, rng, 2, 2), knowing(images, rng, 2, 2)
    assert len(reasons(idi.compute_relative(one, References(*equal)))) == 1


def test_one_image_cannot_outweigh_all_others(rng):
    images = imaginary(20)
    x = rng.normal(size=(60, 1))
    half = linear_probe.halves(Features(images, {}))
    x[[(half[:20] == 1).argmax(), 20 + (half[20:40] == 1).argmax()]] = 1e6  # one of each role: one of them is wrong
    found = told(idi.compute(evidence(images, {"a": x})))
    assert found["forget_information", "a"] > np.log(0.02) / 10


# --- a model whose head alone forgot --------------------------------------------------------------

FORGOTTEN = 3
RELATIVE = (cka, linear_probe, idi, divergence)


def trained(layer, x, y, epochs, lr):
    """The module after Adam on inputs ``x`` and labels ``y``."""
    optimizer = torch.optim.Adam(layer.parameters(), lr)
    draw = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for index in torch.randperm(len(x), generator=draw).split(64):
            loss = nn.functional.cross_entropy(layer(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@pytest.fixture(scope="module")
def forgotten():
    """Original, exact retraining, and the original with a head that was trained afresh on the retain set: name → run.
    Digits, of which all threes are forgotten."""
    digits = load_digits()
    pixels = torch.from_numpy((digits.images * 15.9375).astype(np.uint8))[:, None]
    everything = ImageSet(torch.arange(len(pixels)), pixels, torch.from_numpy(digits.target).long())
    test = everything.ids % 4 == 3
    forget = ~test & (everything.labels == FORGOTTEN)
    spec = Spec("resnet18", 10, (1, 8, 8), {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}, "cifar")
    nets = {name: create(spec, 0) for name in ("original", "retrain", "head")}
    for name, chosen in (("original", ~test), ("retrain", ~test & ~forget)):
        trained(nets[name].train(), to_float(pixels[chosen]), everything.labels[chosen], 6, 0.01)
    nets["head"].load_state_dict(nets["original"].state_dict())
    last, known = head(nets["head"]), layer_features(nets["head"], everything)["penultimate"]
    last.reset_parameters()
    trained(last, torch.from_numpy(known)[~test & ~forget], everything.labels[~test & ~forget], 30, 0.02)
    role = np.where(test, "test", np.where(forget, "forget", "retain"))
    images = pd.DataFrame({"id": everything.ids, "role": role, "label": everything.labels})
    with torch.no_grad():
        return {
            name: evidence(images, layer_features(net, everything), net(to_float(everything.pixels)).numpy())
            for name, net in nets.items()
        }


@pytest.fixture(scope="module")
def measured(forgotten):
    """Run → key → value of all metrics of representations, and of outputs."""
    absolute = {n: [r for metric in (linear_probe, idi) for r in metric.compute(run)] for n, run in forgotten.items()}
    runs = {name: replace(run, metrics=frame(absolute[name])) for name, run in forgotten.items()}
    references = References(runs["retrain"], runs["original"])
    return {
        name: told([*absolute[name], *(r for m in RELATIVE for r in m.compute_relative(run, references))])
        for name, run in runs.items()
    }


@pytest.mark.slow
def test_outputs_say_that_it_forgot(measured):
    outputs = {name: found["js_divergence", "forget"] for name, found in measured.items()}
    assert outputs["retrain"] == 0
    assert outputs["head"] < 0.4 * outputs["original"]
    assert measured["head"]["js_divergence", "test"] < 0.05


@pytest.mark.slow
def test_features_say_that_it_did_not(measured):
    """All that the original's features tell is there, and more than exact retraining's tell."""
    original, retrain, only_head = (measured[name] for name in ("original", "retrain", "head"))
    of_features = [key for key in only_head if not key[0].startswith(("js_", "activation_"))]
    assert {key: only_head[key] for key in of_features} == {key: original[key] for key in of_features}
    assert {value for key, value in only_head.items() if key[0] == "cka_original"} == {1}
    assert only_head["idi",] == 1
    assert only_head["cka_retrain", "forget", "penultimate"] < 0.5
    assert only_head["probe_accuracy", "forget", "penultimate"] > 0.95
    assert only_head["probe_excess", "forget", "group 3"] > 0.05
    assert only_head["probe_excess", "forget", "penultimate"] > 0
    assert only_head["forget_information", "penultimate"] > retrain["forget_information", "penultimate"] + 0.1


@pytest.mark.slow
def test_retraining_is_the_reference(measured):
    retrain = measured["retrain"]
    assert {value for key, value in retrain.items() if key[0] == "cka_retrain"} == {1}
    assert {value for key, value in retrain.items() if key[0] == "probe_excess"} == {0}
    assert retrain["idi",] == 0
    assert retrain["cka_original", "forget", "penultimate"] < 0.5
