"""Plans and results as people read them."""

from collections.abc import Mapping
from typing import Any


def document_markdown(subject: str, document: Mapping[str, Any]) -> str:
    """Write a plan or a result for people."""
    return plan_markdown(document) if subject == "plan" else result_markdown(document)


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
    if plan.get("responds_to"):
        lines += ["", "**Answers to the review**", "", *(f"- {a['how']}" for a in plan["responds_to"])]
    return "\n".join(lines)


def result_markdown(result: Mapping[str, Any]) -> str:
    """Write a result for people."""
    lines = [f"{result['summary']} (outcome: {result['outcome']})"]
    if result.get("changes"):
        lines += ["", "**Changes**", "", *(f"- {change}" for change in result["changes"])]
    if result.get("follow_ups"):
        lines += ["", "**Follow-ups**", "", *(f"- {f}" for f in result["follow_ups"])]
    return "\n".join(lines)
