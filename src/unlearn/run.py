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
CONTROLS = ("original", "retrain")  # methods of every study: nothing forgotten, and exact unlearning
REFERENCE = ("retrain", "all")  # the method and scope that every run is compared with
