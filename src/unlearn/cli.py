"""The command ``unlearn``: explain, verify and export results. Run it in the folder that the workflow runs in."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path


def script() -> int:
    """``main`` as a process of its own, which ends like any other command when nobody reads on (``| head``):
    quietly, by SIGPIPE, status 141 in a shell."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    return main()


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, 1 if ``verify`` found something, 2 for what cannot be done."""
    parser = argparse.ArgumentParser(prog="unlearn", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("explain", help="what a result was made from, back to the data set")
    command.add_argument("artifact", help="a file under results/")
    command.set_defaults(run=_explain)
    command = commands.add_parser("verify", help="read all results and hold them against their records")
    command.add_argument("results", help="a folder of results")
    command.set_defaults(run=_verify)
    command = commands.add_parser("export", help="tables, figures and records as one archive, without weights and data")
    command.add_argument("results", help="a folder of results")
    command.add_argument("archive", help="a new file, NAME.tar.gz")
    command.add_argument("--config", action="append", default=[], help="a config file to add; may be repeated")
    command.set_defaults(run=_export)
    given = parser.parse_args(arguments)
    try:
        return given.run(given)
    except (RuntimeError, OSError) as error:
        print(f"unlearn: {error}", file=sys.stderr)
        return 2


def _explain(given: argparse.Namespace) -> int:
    from unlearn.provenance.lineage import Lineage

    for line in Lineage(given.artifact).lines():
        print(line)
    return 0


def _verify(given: argparse.Namespace) -> int:
    from unlearn.fingerprint import Sources
    from unlearn.provenance.verify import verify

    if not Path(given.results).is_dir():
        raise FileNotFoundError(f"{given.results}: no such folder")
    findings, count = verify(given.results, Sources())
    for finding in findings:
        print(f"{finding.path}: {finding.kind}: {finding.detail}")
    print(f"{count} results read, {len(findings)} findings")
    return int(bool(findings))


def _export(given: argparse.Namespace) -> int:
    from unlearn.provenance.export import export

    count = export(given.results, given.archive, given.config)
    print(f"{given.archive}: {count} files")
    return 0
