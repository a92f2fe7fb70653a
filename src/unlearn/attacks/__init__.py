"""Adversarial attacks: thin adapters on torchattacks, whose defaults mislead: every argument is explicit.

A file here has ``Settings``, ``NORM`` ("linf" or "l2"), ``KIND`` and ``build(model, eps, settings)``,
which returns the attack's members by name, callables (x, y) -> adversarial x for one radius that run
in turn on the images that withstood those before. KIND says what the gates may compare: "single" (one
gradient step), "iterative", "ensemble" (several losses), "black box", "noise"; all but the last two
follow gradients. ``AIM`` is "fool" unless a file says "recover". ``model.classes`` is the number of
classes."""
