"""All tables by name, and those of the whole study."""

from pathlib import Path

from unlearn.io.tables import Table, named

TABLES: dict[str, Table] = {
    name: named(name) for name in sorted(path.stem for path in Path(__file__).with_name("schema").glob("[a-z]*.py"))
}
STUDY_WIDE = tuple(name for name, table in TABLES.items() if table.whole)
