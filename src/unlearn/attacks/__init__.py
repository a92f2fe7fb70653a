"""Adversarial attacks: thin adapters on torchattacks. A file here has ``Settings`` and
``build(model, eps, settings)``, which returns a callable (x, y) -> adversarial x for one L-infinity
radius; every argument of the library is given explicitly, since its defaults mislead."""
