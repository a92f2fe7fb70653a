"""Adversarial attacks: thin adapters on torchattacks. Its defaults mislead, so every argument is explicit.

A file here has ``Settings``, ``THREAT_NORM`` ("linf" or "l2"), ``CATEGORY`` and ``build(model, eps, settings)``, which
returns the attack's members by name: callables (x, y) -> adversarial x for one radius, each run on the images that
withstood those before. CATEGORY says what the gates may compare: "single" (one gradient step), "iterative",
"ensemble" (several losses), "black box" or "noise"; all but the last two follow gradients. ``AIM`` is "fool" unless a
file says "recover". ``model.classes`` is the number of classes. It imports from ``unlearn.api.attacks``.
"""
