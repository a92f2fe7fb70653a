"""Scopes, freezing, probes and features of models of many of timm's families, CNNs to hybrids."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unlearn.evaluation.activations import normalization_layers, spreads
from unlearn.evaluation.features import layer_features
from unlearn.models import scopes
from unlearn.models.classifier import ModelError, Spec, create, head
from unlearn.models.images import ImageSet

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2}
FAMILIES = {
    "resnet50_gn": {"layers": [1, 1, 1, 1], "channels": [32, 32, 64, 64]},  # group norm
    "resnetv2_50": {"layers": [1, 1, 1, 1], "channels": [32, 64, 96, 128]},  # pre-activation
    "convnext_atto": {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]},
    "regnetx_002": {},
    "mobilenetv3_small_050": {},
    "efficientnet_lite0": {},
    "hrnet_w18_small": {},
    "vit_tiny_patch16_224": {**VIT, "norm_layer": "rmsnorm"},
    "beit_base_patch16_224": VIT,
    "cait_xxs24_224": VIT,
    "swin_tiny_patch4_window7_224": {
        "img_size": 32,
        "patch_size": 2,
        "embed_dim": 12,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 2, 2, 4],
        "window_size": 4,
    },
    "pvt_v2_b0": {},
    "levit_128s": {"img_size": 64, "embed_dim": [16, 24, 32], "num_heads": [2, 2, 2], "depth": [1, 1, 1], "key_dim": 8},
    "edgenext_xx_small": {"depths": [1, 1, 1, 1], "dims": [16, 24, 32, 48]},  # hybrids
    "mobilevit_xxs": {},
    "coatnet_pico_rw_224": {"img_size": 64},
    "smallvit": {"embed_dim": 16, "depth": 3, "num_heads": 2, "head_dim": 8, "mlp_dim": 16},
}


@pytest.fixture(params=FAMILIES)
def family(request):
    args = FAMILIES[request.param]
    size = args.get("img_size", 32)
    return Spec(request.param, 4, (3, size, size), args)


@pytest.fixture
def images(family):
    pixels = torch.randint(256, (4, *family.shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return ImageSet(torch.arange(4), pixels, torch.arange(4) % 2)


def test_scopes_freeze_and_probe(family, images):
    model = create(family, 0)
    parts = [scopes.members(model, third).intersection(model.state_dict()) for third in scopes.THIRDS]
    assert all(parts)
    assert sum(map(len, parts)) == len(model.state_dict()) == len(frozenset.union(*parts))

    heads = model.net.get_classifier()  # several in a distilled transformer
    heads = heads if isinstance(heads, tuple) else (heads,)
    head = {id(parameter) for classifier in heads for parameter in classifier.parameters()}
    assert head <= {id(parameter) for name, parameter in model.named_parameters() if name in parts[2]}

    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    scopes.freeze(model, "last")
    scopes.train(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01, weight_decay=0.1)
    for _ in range(2):
        F.cross_entropy(model(images.pixels / 255), images.labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert changed <= parts[2]

    rows = list(spreads(model, images, "output", "channel"))
    layers = {name.removeprefix("net.") for name in normalization_layers(model)}
    assert {row.layer for row in rows} == layers
    assert all(row.count == 2 for row in rows)
    one_by_one = spreads(model, images, "output", "channel", batch_size=1)
    for row, alone in zip(rows, one_by_one, strict=True):
        assert row[:4] == alone[:4]
        assert row.sigma == pytest.approx(alone.sigma, rel=1e-3, abs=1e-5)


def test_features_of_every_layer(family, images):
    model = create(family, 0)
    if family.model == "levit_128s":
        with pytest.raises(ModelError, match="has no single last layer"):  # one head of two is distilled
            layer_features(model, images)
        return
    found = layer_features(model, images)
    assert list(found) == [*(f"group {i}" for i in range(max(scopes.groups(model).values()))), "penultimate"]
    one_by_one = layer_features(model, images, batch_size=1)
    for layer, x in found.items():
        assert x.shape == (4, x.shape[1])
        assert x.std(0).any(), "images differ"
        np.testing.assert_allclose(x, one_by_one[layer], rtol=1e-3, atol=1e-5, err_msg=layer)
    with torch.no_grad():
        x, last = torch.from_numpy(found["penultimate"]), head(model)
        logits = last(x[:, :, None, None]).flatten(1) if isinstance(last, nn.Conv2d) else last(x)
        torch.testing.assert_close(logits, model(images.pixels / 255), rtol=1e-3, atol=1e-4)
    channels = {stage["num_chs"] for stage in getattr(model.net, "feature_info", [])}
    stages = [found[layer].shape[1] for layer in list(found)[1:-1]]
    if family.model != "hrnet_w18_small" and channels:  # a branch, or all side by side
        assert len(channels.intersection(stages)) >= min(len(channels), len(stages)) - 2, (channels, stages)
