"""Data sources. A file here has ``Settings`` and ``load(settings) -> Source``; it imports from ``unlearn.api.data``."""
