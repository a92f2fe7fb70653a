"""The radii at which a study attacks, read from its table."""

from collections.abc import Mapping

from unlearn.io import tables
from unlearn.io.schema.radii import RADII


def ascending(path: str, norm: str) -> list[float]:
    """The ascending radii of a norm. Raises TableError if the study has none."""
    table = tables.read(RADII, path).to_pandas()
    found = sorted(table.loc[table["threat_norm"] == norm, "eps"].tolist())
    if not found:
        raise tables.TableError(f"{path}: no radii for threat norm {norm!r}")
    return found


def headlines(path: str, norms: Mapping[str, str]) -> dict[str, float]:
    """Attack → the radius that summaries show; ``norms``: attack → norm."""
    table = tables.read(RADII, path).to_pandas()
    by_norm = table[table["headline"]].set_index("threat_norm")["eps"].to_dict()
    return {attack: by_norm[norm] for attack, norm in norms.items()}
