"""The radii at which a study attacks, read from its table."""

from collections.abc import Mapping

from unlearn.io import tables
from unlearn.io.schema.radii import RADII


def ascending(path: str, threat_norm: str) -> list[float]:
    """The ascending radii of a threat norm. Raises TableError if the study has none."""
    table = tables.read(RADII, path).to_pandas()
    radii = sorted(table.loc[table["threat_norm"] == threat_norm, "eps"].tolist())
    if not radii:
        raise tables.TableError(f"{path}: no radii for threat norm {threat_norm!r}")
    return radii


def headlines(path: str, threat_norms: Mapping[str, str]) -> dict[str, float]:
    """Attack → the radius that summaries show; ``threat_norms``: attack → its threat norm."""
    table = tables.read(RADII, path).to_pandas()
    by_norm = table[table["headline"]].set_index("threat_norm")["eps"].to_dict()
    return {attack: by_norm[norm] for attack, norm in threat_norms.items()}
