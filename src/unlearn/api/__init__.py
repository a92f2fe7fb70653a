"""What plug-ins import: one module per kind of plug-in, and nothing else of this package is needed.

A fingerprint covers whole modules, and metrics and figures run without torch; so each module here imports only what
plug-ins of its kind use.
"""
