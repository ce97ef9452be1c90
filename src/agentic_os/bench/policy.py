"""What policy costs: one decision among many rules, and putting a large file in force."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from agentic_os.bench.rows import Row, median
from agentic_os.clock import now
from agentic_os.governance import documents_in, load_documents, load_governance
from agentic_os.governance.lint import lint

_RULES: Final = 200
_LARGE: Final = 1_000
_MICROSECONDS: Final = 200
_SECONDS: Final = 2
_DECISIONS: Final = 2_000
_FORMS: Final = (
    "when: {{all: [{{field: task.project, eq: shop-{n}}}, {{field: task.risk, gte: high}}]}}",
    'when: {{all: [{{field: task.paths, any_glob: ["deploy/{n}/**", "*.{n}.yaml"]}}]}}',
    "when: {{any: [{{field: task.labels, any: [label-{n}]}}, {{not: {{field: task.project, glob: '*'}}}}]}}",
    "when: {{all: [{{field: task.risk, gte: medium}}, {{field: task.tools, any_glob: ['psql-{n}*']}}]}}",
    "when: {{all: [{{field: task.risk, gte: high}}, {{field: task.labels, any: [label-{n}, urgent]}}]}}",
)
_FACTS: Final[dict[str, Any]] = {
    "task.project": "shop-25",
    "task.risk": "high",
    "task.mode": "direct",
    "task.paths": [
        "src/payments/retry.py",
        "src/payments/limits.py",
        "tests/test_retry.py",
        "deploy/31/a.yaml",
    ],
    "task.tools": ["pytest", "git"],
    "task.labels": ["label-2", "label-14"],
    "task.requester": "omar",
    "task.assignee": None,
}


def policy(repeats: int) -> Iterator[Row]:
    """Time one decision among 200 rules, of every form, and what applying 1,000 costs; the worst counts."""
    with tempfile.TemporaryDirectory() as folder:
        decisions = [_decision(Path(folder)) for _ in range(repeats)]
        applied = [_applying(Path(folder)) for _ in range(repeats)]
    yield Row(
        name=f"one decision, {_RULES} rules, median",
        value=max(decisions),
        unit="us",
        target=_MICROSECONDS,
        at_most=True,
    )
    yield Row(name=f"applying {_LARGE:,} rules", value=max(applied), unit="s", target=_SECONDS, at_most=True)


def _written(folder: Path, count: int) -> Path:
    rules = "".join(
        f"  - id: rule-{n}\n    on: task.received\n    {_FORMS[n % len(_FORMS)].format(n=n)}\n"
        f"    require: {{mode: plan_first, reviewers: {{quorum: 2}}, deadline: 4h, evidence: {{tests: observed}}}}\n"
        f"    reason: The reason of rule {n}.\n"
        for n in range(count)
    )
    (folder / "policy.yaml").write_text(f"defaults: {{mode: direct}}\nrules:\n{rules}", encoding="utf-8")
    return folder


def _decision(folder: Path) -> float:
    rules = load_governance(_written(folder, _RULES)).policy
    times = []
    for _ in range(_DECISIONS):
        begun = perf_counter()
        rules.decide("task.received", _FACTS)
        times.append((perf_counter() - begun) * 1e6)
    return median(times)


def _applying(folder: Path) -> float:
    """Do what `apply` does beside its requests: the lint, a reading, and the server's own from the same texts."""
    _written(folder, _LARGE)
    begun = perf_counter()
    faults = [remark for remark in lint(folder, now()) if remark.level == "fault"]
    load_governance(folder)
    load_documents(documents_in(folder))
    if faults:
        raise RuntimeError(f"the generated policy has faults: {faults[0]}")
    return perf_counter() - begun
