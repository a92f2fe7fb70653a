"""Unlearning methods. A file here has ``DATA_ROLES`` (the roles of the data it may read), a frozen
``Settings`` with its hyper-parameters, and ``unlearn(model, job, settings)``, which changes the
model in place inside ``job.scope``. See docs/adding-a-method.md."""
