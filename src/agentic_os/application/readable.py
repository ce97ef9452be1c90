"""Plans and results as people read them."""

import re
from collections.abc import Mapping
from typing import Any, Final

from agentic_os.domain.task import Submission

GOAL_SHOWN: Final = 1000
"""How many characters of a proposed task's goal a note shows; the history has all of it."""


def gate_marker(submission: Submission) -> str:
    """Name the note that asks for the decision on a plan or result, in the stage of its review that is open."""
    stage = f":{submission.stage + 1}" if submission.stage else ""
    return f"gate:{submission.digest}{stage}"


def document_markdown(subject: str, document: Mapping[str, Any]) -> str:
    """Write a plan or a result for people."""
    return plan_markdown(document) if subject == "plan" else result_markdown(document)


def fenced(text: str) -> str:
    """Show a text as it is: nothing in it ends the fence."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}text\n{text.rstrip()}\n{fence}"


def plan_markdown(plan: Mapping[str, Any]) -> str:
    """Write a plan for people."""
    lines = [plan["summary"], "", "**Steps**", ""]
    for step in plan["steps"]:
        scope = [f"paths: {', '.join(step['paths'])}"] if step.get("paths") else []
        scope += [f"tools: {', '.join(step['tools'])}"] if step.get("tools") else []
        scope += [f"risk: {step['risk']}"] if "risk" in step else []
        lines.append(f"1. `{step['id']}` {step['title']}" + (f" ({'; '.join(scope)})" if scope else ""))
    if plan.get("acceptance"):
        lines += [
            "",
            "**Acceptance**",
            "",
            *(f"- `{a['criterion_id']}` {a['how']}" for a in plan["acceptance"]),
        ]
    if plan.get("risks"):
        lines += ["", "**Risks**", ""]
        for risk in plan["risks"]:
            mitigation = f" Mitigation: {risk['mitigation']}" if "mitigation" in risk else ""
            lines.append(f"- ({risk['level']}) {risk['description']}{mitigation}")
    if plan.get("tasks"):
        lines += ["", "**Tasks to be created on approval**", "", *map(_proposed, plan["tasks"])]
    return "\n".join(lines)


def _proposed(item: dict[str, Any]) -> str:
    """Write a proposed task so that an approval knows what it covers: its scope, its goal, its criteria."""
    scope = [f"{name}: {item[name]}" for name in ("role", "mode", "priority") if name in item]
    scope += [f"{n}: {', '.join(item[n])}" for n in ("paths", "tools", "depends_on") if item.get(n)]
    goal = " ".join(item["goal"].split())
    criteria = "; ".join(" ".join(criterion["text"].split()) for criterion in item["acceptance"])
    return (
        f"- `{item['ref']}` {item['title']}" + (f" ({'; '.join(scope)})" if scope else "") + "\n"
        f"  Goal: {goal[:GOAL_SHOWN]}{'...' if len(goal) > GOAL_SHOWN else ''}\n"
        f"  Accepted when: {criteria[:GOAL_SHOWN]}{'...' if len(criteria) > GOAL_SHOWN else ''}"
    )


def result_markdown(result: Mapping[str, Any]) -> str:
    """Write a result for people."""
    lines = [f"{result['summary']} (outcome: {result['outcome']})"]
    if result.get("changes"):
        lines += ["", "**Changes**", "", *(f"- {change}" for change in result["changes"])]
    if result.get("follow_ups"):
        lines += ["", "**Follow-ups**", "", *(f"- {f}" for f in result["follow_ups"])]
    return "\n".join(lines)
