"""The command ``unlearn``."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from unlearn import __version__
from unlearn.config import contracts, plugins

ABOUT = "Begin a study of your own data; list what a config may name; explain, verify and export results."
NOTES = """\
examples:
  unlearn new mine --data photos --forget forget.txt    looks at the data and writes mine.yaml
  unlearn inspect mine.yaml                             what that study is about to do, and how long it takes
  unlearn list methods                                  what `methods:` in config.yaml may name
  unlearn test-plugin mine/methods/ascent.py            whether a plug-in does what its kind must
  unlearn explain results/digits/figures/cost.pdf       what this figure was made from
  unlearn verify results/digits                         whether every result is as it was made
  unlearn export results/digits digits.tar.gz           tables, figures and records, to hand on
  snakemake --cores 8 all                               runs the study of config.yaml

Paths of results are relative to the folder that the workflow ran in; run the command there.

exit status:
  0  done
  1  `verify` read all results, and some are not as their records say; or a check of `test-plugin` failed
  2  the command could not be carried out; one line on stderr says why
"""


def script() -> int:
    """Run ``main`` as a process of its own. If its reader goes away (``| head``), SIGPIPE ends it without a message,
    as it ends other commands (status 141 in a shell)."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    return main()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; ``NOTES`` documents it."""
    given = _parser().parse_args(arguments)
    try:
        return given.run(given)
    except (RuntimeError, OSError, ValueError) as error:
        if isinstance(error, ValueError) and type(error).__module__.split(".")[0] != "unlearn":
            raise  # a defect of this program, of which the traceback says more
        print(f"unlearn: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="unlearn", description=ABOUT, epilog=NOTES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("new", help="look at data, and write the config of a study on them")
    command.add_argument("study", help="its name; the file is STUDY.yaml in the current folder")
    command.add_argument(
        "--data", required=True, help="a folder of images, Parquet files, or a CSV file that lists images"
    )
    command.add_argument("--model", help="a timm model, or FILE.py:FUNCTION")
    command.add_argument("--weights", help="a file of weights of that model: the model to unlearn")
    command.add_argument("--forget", help="a text file: the image files to forget, one a line")
    command.set_defaults(run=_new)
    command = commands.add_parser("inspect", help="data, forget sets, models, jobs and time of a study, before it runs")
    command.add_argument("overlays", nargs="+", metavar="STUDY.yaml", help="config files, as of --configfile")
    command.set_defaults(run=_inspect)
    command = commands.add_parser("list", help="the plug-ins of a kind, each with the first line of its description")
    command.add_argument("kind", choices=plugins.KINDS)
    _with_plugins(command)
    command.set_defaults(run=_list)
    command = commands.add_parser("explain", help="what a result was made from, back to the data set")
    command.add_argument("artifact", help="a file under results/")
    command.set_defaults(run=_explain)
    command = commands.add_parser("verify", help="read all results and compare them with their records")
    command.add_argument("results", help="a folder of results")
    _with_plugins(command)
    command.set_defaults(run=_verify)
    command = commands.add_parser("test-plugin", help="check a plug-in's contract, and what a method does to a model")
    command.add_argument("file", help="DIR/methods/NAME.py, or in attacks, metrics, figures or data")
    command.set_defaults(run=_test_plugin)
    command = commands.add_parser("export", help="tables, figures and records as one archive, without weights and data")
    command.add_argument("results", help="a study's folder, results/NAME")
    command.add_argument("archive", help="a new file, NAME.tar.gz or NAME.tgz")
    command.add_argument("--config", action="append", default=[], help="a config file to add; may be repeated")
    command.set_defaults(run=_export)
    return parser


def _with_plugins(command: argparse.ArgumentParser) -> None:
    command.add_argument("--plugins", action="append", default=[], help="a folder of plug-ins; may be repeated")


# Each imports what it needs: the libraries behind the others take seconds to load.


def _new(given: argparse.Namespace) -> int:
    from unlearn.cli.new import Wanted, new

    for line in new(Wanted(given.study, given.data, given.weights, given.model, given.forget)):
        print(line, flush=True)
    return 0


def _inspect(given: argparse.Namespace) -> int:
    from unlearn.cli.inspect import inspect

    for line in inspect(given.overlays):
        print(line, flush=True)
    return 0


def _list(given: argparse.Namespace) -> int:
    plugins.use(given.plugins)
    names = plugins.names(given.kind)
    for name in names:
        first, *_ = contracts.declaration(given.kind, name).doc.splitlines() or [""]
        print(f"{name:{max(map(len, names))}}  {first}".rstrip())
    return 0


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
    plugins.use(given.plugins)
    findings, count = verify(given.results, Sources())
    for finding in findings:
        print(f"{finding.path}: {finding.kind}: {finding.detail}")
    print(f"{count} results read, {len(findings)} findings")
    return int(bool(findings))


def _test_plugin(given: argparse.Namespace) -> int:
    from unlearn.cli.conformance import checked

    failed = False
    for mark, found in checked(given.file):
        print(f"{mark:6}  {found}", flush=True)
        failed |= mark == "FAILED"
    return int(failed)


def _export(given: argparse.Namespace) -> int:
    from unlearn.provenance.export import export

    count = export(given.results, given.archive, given.config)
    print(f"{given.archive}: {count} files")
    return 0
