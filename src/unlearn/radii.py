"""The radii at which a study attacks, read from its grid table."""

from collections.abc import Mapping

from unlearn import schema, tables


def radii(grid: str, norm: str) -> list[float]:
    """The ascending radii of a norm. Raises TableError if the study has none."""
    table = tables.read(schema.GRID, grid).to_pandas()
    found = sorted(table.loc[table["norm"] == norm, "eps"].tolist())
    if not found:
        raise tables.TableError(f"{grid}: no radii for norm {norm!r}")
    return found


def headlines(grid: str, norms: Mapping[str, str]) -> dict[str, float]:
    """Attack → the radius that summaries show; ``norms``: attack → norm."""
    table = tables.read(schema.GRID, grid).to_pandas()
    by_norm = table[table["headline"]].set_index("norm")["eps"].to_dict()
    return {attack: by_norm[norm] for attack, norm in norms.items()}
