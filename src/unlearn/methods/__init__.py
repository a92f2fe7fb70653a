"""Unlearning methods. A file here has ``DATA_ROLES`` (the roles of the data it may read), ``Settings`` with its
hyper-parameters, and ``unlearn(model, context, settings)``, which changes the model in place inside
``context.scope``. It imports from ``unlearn.api.methods``. See docs/adding-a-method.md."""
