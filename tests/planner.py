"""Snakemake's command line, which also writes the message of each job that it starts to the file ``planned``.

From Snakemake's events, a line each; in a dry run, of each job that it would start. All jobs of the workflow are
written to ``jobs.json``. With arguments it is one call of Snakemake. Without, each line of its input is one, the
arguments as a JSON list, and each line of its output an exit status. These calls fork from a process that has Snakemake
and the project's syntax trees loaded, which takes a third of the time of a dry run, and write to ``snakemake.out``.
"""

import json
import logging
import os
import sys
from pathlib import Path

from snakemake import cli
from snakemake_interface_logger_plugins.common import LogEvent

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from jobs import write_jobs


def main() -> None:
    with open("planned", "w", encoding="utf-8") as file:

        def note(record: logging.LogRecord) -> bool:
            if getattr(record, "event", None) == LogEvent.JOB_INFO and record.rule_msg:
                print(record.rule_msg, file=file, flush=True)
            return True

        # A filter, because Snakemake takes the logger's handlers away.
        logging.getLogger("snakemake.logging").addFilter(note)
        write_jobs()
        cli.main()


def serve() -> None:
    import jsonschema  # noqa: F401
    import pandas  # noqa: F401
    import pyarrow  # noqa: F401
    import smart_open  # noqa: F401
    import snakemake.api
    import snakemake.dag
    import snakemake.executors.touch
    import snakemake.profiles
    import snakemake.report.html_reporter
    import snakemake.storage
    import snakemake.workflow
    import yaml  # noqa: F401

    snakemake.executors.touch.Executor.SLEEPING_TIME = 0  # it pretends that a job takes 0.1 s
    sys.path.insert(0, "src")
    from unlearn.fingerprint import Sources

    Sources().digest(*(f"unlearn.{path.parent.name}.{path.stem}" for path in Path("src/unlearn").glob("*/[a-z]*.py")))
    for line in sys.stdin:
        if not (child := os.fork()):
            out = os.open("snakemake.out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1), os.dup2(out, 2)
            sys.argv = ["snakemake", *json.loads(line)]
            main()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main() if sys.argv[1:] else serve()
