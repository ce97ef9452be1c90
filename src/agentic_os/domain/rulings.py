"""What policy said, put on record: with what came of it, or alone where it let something not in."""

from typing import Final

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.comparison import outcome
from agentic_os.domain.shadow import differed
from agentic_os.domain.task import Task

_RULED: Final = (c.SubmitPlan, c.SubmitResult, c.EditPlan, c.Escalate, c.ReportFailure, c.FireDeadline)


def on_record(command: c.Command) -> list[e.Event]:
    """Put on record what policy said of a command, once it changed something."""
    asked = command.late if isinstance(command, c.Adopt) else command
    if not isinstance(asked, _RULED) or asked.ruling is None:
        return []
    return decided(asked.ruling)


def record(command: c.RecordDenial, task: Task) -> list[e.Event]:
    """Put a denial on record; the same one of the same thing again is not another one."""
    said = command.ruling
    again = task.denied == (said.verdict.hook, said.verdict.bundle, said.facts_digest)
    return [] if again else decided(said)


def decided(ruling: c.Ruling) -> list[e.Event]:
    """Put on record what policy said, and where its shadow differs."""
    verdict = ruling.verdict
    recorded = e.PolicyDecided(
        hook=verdict.hook,
        decision=verdict.decision,
        rules=verdict.rules,
        reasons=verdict.reasons,
        bundle=verdict.bundle,
        facts=verdict.facts,
        facts_digest=ruling.facts_digest,
        obligations=outcome(verdict).obligations,
        then=verdict.then,
        ask=verdict.ask,
    )
    return [*differed(verdict), recorded]
