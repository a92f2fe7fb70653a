"""``python -m unlearn``."""

import sys

from unlearn.cli import script

sys.exit(script())
