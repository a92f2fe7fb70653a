"""What each rule asks of a cluster fits what its script runs."""

import ast
import re

import pytest
from conftest import ROOT

TEXT = {path.name: path.read_text() for path in sorted((ROOT / "workflow/rules").glob("*.smk"))}
RULES = {
    name: body
    for text in TEXT.values()
    for name, body in re.findall(r"^rule (\w+):\n(.*?)(?=^rule |\Z)", text, re.M | re.S)
}
LOCAL = set(
    re.findall(
        r"^    (\w+),$", re.search(r"^localrules:\n(.*?)\n\n", TEXT["resources.smk"], re.M | re.S)[1] + "\n", re.M
    )
)


def parameters(rule: str) -> set[str]:
    """What the stage of a rule takes."""
    stage = re.search(r'code=code\("(\w+)', RULES[rule])[1]
    tree = ast.parse((ROOT / f"src/unlearn/stages/{stage}.py").read_text())
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == stage)
    return {argument.arg for argument in function.args.args}


@pytest.mark.parametrize("rule", RULES)
def test_only_jobs_that_run_a_model_ask_for_a_gpu(rule):
    models = "**model(" in RULES[rule] or "**(model(" in RULES[rule]
    assert models == ("device" in parameters(rule))


@pytest.mark.parametrize("rule", RULES)
def test_every_job_is_local_or_says_what_it_needs(rule):
    assert (rule in LOCAL) != ("    resources:\n" in RULES[rule])


def test_every_local_rule_is_a_rule():
    assert LOCAL
    assert not LOCAL - set(RULES)
