"""What the scripted model does: all that it knows of a task was printed by a tool that the client ran."""

import json
import re
from dataclasses import dataclass
from typing import Any, Self

from tests.agents.model import Act, Say, Shell, Turn, Write

_OPENING = re.compile(r"`(python3 (\S+)/start-work/scripts/start_work\.py --brief \S+)`")
_HEADING = re.compile(r"Task (\S+), attempt (\d+), step: (\w+)")


@dataclass(frozen=True)
class Brief:
    """What start-work printed. plan: version and digest of the approved plan; items: review items, text by id."""

    task: str
    attempt: int
    step: str
    title: str
    text: str
    criteria: tuple[str, ...]
    items: dict[str, str]
    plan: tuple[int, str] | None

    @classmethod
    def read(cls, printed: str) -> Self:
        """Read the brief from what the script printed; AssertionError with its words if it is none."""
        heading = _HEADING.search(printed)
        assert heading, f"start-work said: {printed}"
        title = re.search(r"# (.+)", printed)
        plan = _section(printed, "The approved plan")
        approved: Any = json.loads(plan[: plan.rindex("}") + 1]) if plan else None
        return cls(
            task=heading[1],
            attempt=int(heading[2]),
            step=heading[3],
            title=title[1] if title else "",
            text=printed,
            criteria=tuple(re.findall(r"^- \[(\S+)\] \(", printed, re.MULTILINE)),
            items=dict(re.findall(r"^- \[(\S+)\] ([^(].*)", _section(printed, "Review items"), re.MULTILINE)),
            plan=(approved["version"], approved["digest"]) if approved else None,
        )


def _section(printed: str, title: str) -> str:
    found = re.search(rf"^## {title}[^\n]*\n(.*?)(?=^## |^Lease:|\Z)", printed, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def start(turn: Turn) -> Shell:
    """Begin as the prompt says."""
    return Shell(_opening(turn)[1])


def skill(turn: Turn, name: str, arguments: str) -> Shell:
    """Run the script of a skill, in the folder of skills that the prompt names."""
    script = f"{name.replace('-', '_')}.py"
    return Shell(f"python3 {_opening(turn)[2]}/{name}/scripts/{script} {arguments}")


def diligent(turn: Turn) -> Act:
    """Plan or work as the brief says, and report it."""
    if not turn.results:
        return start(turn)
    brief = Brief.read(turn.results[0])
    acts = planning(turn, brief) if "plan" == brief.step else working(turn, brief)
    return _following(acts, turn, begun=1)


def planning(turn: Turn, brief: Brief) -> list[Act]:
    """Write a plan that answers each review item, and submit it."""
    steps = ["Count the beans", *(f"Also: {text}" for text in brief.items.values())]
    plan = [
        "## Summary",
        f"Count the beans of task {brief.task}.",
        "## Steps",
        *(f"- [s{number}] {step} (paths: work; risk: low)" for number, step in enumerate(steps, 1)),
        "## Acceptance",
        *(f"- [{criterion}] They are counted twice." for criterion in brief.criteria),
        "## Risks",
        "none",
    ]
    if brief.items:
        plan += ["## Responses", *(f"- [{item}] Done: {text}" for item, text in brief.items.items())]
    file = f".agentic-os/plan-{brief.attempt}.md"
    return [Write(file, "\n".join(plan) + "\n"), skill(turn, "submit-plan", file)]


def working(turn: Turn, brief: Brief) -> list[Act]:
    """Write a file, commit it, and submit a result that names the plan that was followed."""
    followed = f"plan v{brief.plan[0]} {brief.plan[1]}" if brief.plan else "no plan"
    work = f"work-{brief.task}-{brief.attempt}.txt"
    result = {
        "outcome": "success",
        "summary": f"41 beans, by {followed}",
        "changes": [f"{work}: the count"],
        "evidence": [
            {"criterion_id": criterion, "rank": "self_reported", "status": "pass"}
            for criterion in brief.criteria
        ],
    }
    file = f".agentic-os/result-{brief.attempt}.json"
    return [
        Write(work, f"41 beans, by {followed}\n"),
        Shell(f"git add {work}"),
        Shell('git commit -m "Count the beans"'),
        Write(file, json.dumps(result)),
        skill(turn, "submit-result", file),
    ]


def after(*first: Act) -> Any:
    """Make a script that does these acts after start-work, and then ends."""
    return lambda turn: start(turn) if not turn.results else _following(list(first), turn, begun=1)


def _opening(turn: Turn) -> re.Match[str]:
    found = _OPENING.search(turn.prompt)
    assert found, f"the prompt does not say how to begin: {turn.prompt}"
    return found


def _following(acts: list[Act], turn: Turn, *, begun: int) -> Act:
    done = len(turn.results) - begun
    return acts[done] if done < len(acts) else Say("That is all.")
