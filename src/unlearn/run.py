"""The run: what a study consists of, and which runs every study has."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """The identity of a run. It stands in columns and is never parsed from a path."""

    arch: str
    forget: str
    method: str
    scope: str
    seed: int


PRETRAINING = "pretrain"  # in place of a method, for the original model as it is trained
ALL = "all"  # the scope of all layers
CONTROLS = ORIGINAL, RETRAIN = "original", "retrain"  # methods of every study: nothing forgotten, and exact unlearning
REFERENCE = (RETRAIN, ALL)  # the method and scope that every run is compared with
