"""An agent by script: plans, answers what a review asks, and delivers a report. Standard library and skills only."""

import json
import os
import subprocess
import sys
from pathlib import Path

SKILLS = Path(".agents/skills")


def skill(name: str, script: str, *arguments: str) -> None:
    """Run a skill's script; a refusal ends the run."""
    subprocess.run([sys.executable, str(SKILLS / name / "scripts" / script), *arguments], check=True)


def plan(items: list[dict[str, str]]) -> dict[str, object]:
    """Plan to count; each item of a review becomes a step of the next version, and is answered."""
    steps = [{"id": "count", "title": "Count the <b>beans</b>", "risk": "low"}]
    steps += [{"id": f"also-{n}", "title": f"Also: {item['text']}"} for n, item in enumerate(items, 1)]
    answers = [{"item_id": item["id"], "how": f"There is a step now: {item['text']}"} for item in items]
    return {
        "summary": "Count the beans.",
        "steps": steps,
        "acceptance": [],
        "risks": [],
        **({"responds_to": answers} if answers else {}),
    }


def main() -> None:
    """Do the step that the brief asks for."""
    given = os.environ  # noqa: TID251 - an executor of its own
    print("woken for attempt", given["AGENTIC_OS_ATTEMPT"], flush=True)  # noqa: T201 - what its log shows
    skill("start-work", "start_work.py", "--runtime", "scripted")
    lines = Path(given["AGENTIC_OS_BRIEF"]).read_text("utf-8").splitlines()
    brief = json.loads(next(line for line in lines if line.startswith('{"acceptance"')))
    if brief["step"] == "plan":
        Path("plan.json").write_text(json.dumps(plan(brief.get("review_items") or [])))
        skill("submit-plan", "submit_plan.py", "plan.json")
        return
    Path("report.md").write_text("# There are 41 beans\n")
    result = {"outcome": "success", "summary": "There are 41 beans.", "changes": ["report.md: written"]}
    Path("result.json").write_text(json.dumps(result | {"evidence": [], "deviations": [], "follow_ups": []}))
    skill("submit-result", "submit_result.py", "result.json", "--artifact", "report.md")


if __name__ == "__main__":
    main()
