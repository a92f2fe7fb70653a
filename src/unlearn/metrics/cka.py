"""Linear CKA of each layer: how alike two models represent the same images, up to rotation, scale and offset.

Centred kernel alignment with the linear kernel (Kornblith et al. 2019, arXiv:1905.00414, §3): HSIC(K, L) / sqrt(HSIC(K,
K) HSIC(L, L)) for K = X X^T of one model's features and L of the other's. HSIC is estimated without bias (Song et al.
2012, JMLR 13, eq. 5; for CKA Nguyen et al. 2021, arXiv:2010.15327). The paper's own estimator is biased upwards where
there are not far more images than features: unrelated Gaussian features of 50 images have a CKA of 0.50 at width 50
and 0.95 at width 1000, by this estimator 0 on average. The unbiased HSIC is the inner product of U-centred kernels
(Székely & Rizzo 2014, Ann. Statist. 42(6), §3.1), so CKA lies in [-1, 1]: 1 for the same representation, about 0 for
unrelated ones.

Forget images say whether the model still represents what was to be forgotten as the original does, test images
whether the rest changed with it. Two retrainings with different seeds are not alike to 1 either.
"""

import numpy as np

from unlearn.api.metrics import Evidence, Metric, References, Row, Rows, Undefined, no_value

NEEDS = ("features",)
METRICS = {
    "cka_retrain": Metric("CKA with retrain", "max", -1, 1),
    "cka_original": Metric("CKA with the original", "match_retrain", -1, 1),
}

FEWEST = 4
ROUNDING = 1e-10  # of float32 features: what is left of a constant layer's kernel, as a share of its square


def compute_relative(run: Evidence, references: References) -> Rows:
    """Per layer, on forget and on test images, which n counts."""
    for name, other in (("cka_retrain", references.retrain), ("cka_original", references.original)):
        for role in ("forget", "test"):
            own, others = run.features_beside(other, role)
            for layer, x in own.layers.items():
                try:
                    yield Row(name, cka(x, others.layers[layer]), len(x), role=role, layer=layer)
                except Undefined as error:
                    yield no_value(name, str(error), len(x), role=role, layer=layer)


def cka(x: np.ndarray, y: np.ndarray) -> float:
    """Linear CKA of features [N, D] and [N, E] of the same images. Raises Undefined for fewer than four images, and for
    features that are alike for all images.

    >>> x = np.array([[0.0, 1], [1, 0], [2, 2], [5, 1], [1, 4]])
    >>> round(cka(x, 3 * x[:, ::-1] + 7), 6)
    1.0
    """
    a, b = u_centred(x), u_centred(y)
    return float(np.clip((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()), -1, 1))


def u_centred(x: np.ndarray) -> np.ndarray:
    """The linear kernel of features [N, D], without its diagonal and centred so that all rows add up to 0, [N, N].
    Raises as ``cka`` does."""
    n = len(x)
    if n < FEWEST:
        raise Undefined(f"{n} images; an unbiased CKA needs {FEWEST}")
    x = x.astype(np.float64)
    scale = np.abs(x).max()
    x = x - x.mean(0)
    if np.abs(x).max() <= ROUNDING * scale:
        raise Undefined("the features are alike for all images, so CKA is not defined")
    kernel = x @ x.T / np.square(x).sum()
    np.fill_diagonal(kernel, 0)
    rows = kernel.sum(0)
    kernel += rows.sum() / ((n - 1) * (n - 2)) - (rows[:, None] + rows) / (n - 2)
    np.fill_diagonal(kernel, 0)
    return kernel
