"""All tables by name, for code that has only a name."""

from importlib import import_module
from pathlib import Path

from unlearn.io.tables import Table

TABLES: dict[str, Table] = {
    name: getattr(import_module(f"unlearn.io.schema.{name}"), name.upper())
    for name in sorted(path.stem for path in Path(__file__).with_name("schema").glob("[a-z]*.py"))
}
