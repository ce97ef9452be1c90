"""A small, honest executor: it inspects a repository and reports what it found, through the hydrated skills.

It is started by the control plane in its workspace, as any agent is: the brief lies in the file that
AGENTIC_OS_BRIEF names, and it writes back only through the skills' scripts. Standard library only.
"""

import ast
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SKILLS = Path(".agents/skills")
_MOST_FILES = 20_000
_LARGEST_READ = 1024 * 1024
_SKIPPED = {".git", ".venv", "node_modules", "__pycache__"}


@dataclass(frozen=True)
class Inspection:
    """What was found: files by ending, lines of text, and the longest functions of the Python files."""

    root: Path
    files: list[Path]
    endings: Counter[str]
    lines: Counter[str]
    functions: list[tuple[int, str]]
    unreadable: list[str]


def main() -> int:
    """Do the step that the brief asks for."""
    repository = Path(sys.argv[1])
    step = _start_work()
    inspection = inspect(repository)
    if step == "plan":
        return _submit_plan(inspection)
    return _submit_result(inspection)


def _start_work() -> str:
    """Acknowledge the brief with the skill, and read from the brief which step it is."""
    _skill("start-work", "start_work.py", "--runtime", "agentic-os-demo")
    brief = Path(os.environ["AGENTIC_OS_BRIEF"]).read_text(encoding="utf-8")  # noqa: TID251 - an executor of its own
    sealed = next(line for line in brief.splitlines() if line.startswith('{"acceptance"'))
    step: str = json.loads(sealed)["step"]
    return step


def inspect(root: Path) -> Inspection:
    """Count files and lines, and measure functions."""
    files = sorted(_files(root))[:_MOST_FILES]
    endings: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    functions: list[tuple[int, str]] = []
    unreadable: list[str] = []
    for path in files:
        ending = path.suffix or "(none)"
        endings[ending] += 1
        if path.is_symlink() or path.stat().st_size > _LARGEST_READ:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            unreadable.append(str(path.relative_to(root)))
            continue
        lines[ending] += text.count("\n")
        if ending == ".py":
            functions += _functions(path.relative_to(root), text)
    return Inspection(root, files, endings, lines, sorted(functions, reverse=True)[:10], unreadable)


def _files(root: Path) -> Iterator[Path]:
    """List what git tracks, or else what lies there."""
    tracked = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        capture_output=True,
        check=False,
    )
    if tracked.returncode == 0 and tracked.stdout:
        for name in tracked.stdout.decode(errors="replace").split("\0"):
            if name and (root / name).is_file():
                yield root / name
        return
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f not in _SKIPPED]
        yield from (Path(folder) / name for name in names if (Path(folder) / name).is_file())


def _functions(path: Path, text: str) -> Iterator[tuple[int, str]]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1, f"{path}:{node.lineno} {node.name}"


def _submit_plan(inspection: Inspection) -> int:
    """Propose the work, sized by a first look."""
    python = inspection.endings.get(".py", 0)
    plan = {
        "summary": f"Inspect {len(inspection.files)} files, and report sizes, endings and the longest functions.",
        "steps": [
            {"id": "count", "title": f"Count {len(inspection.files)} files by ending", "risk": "low"},
            {"id": "measure", "title": f"Measure the functions of {python} Python files", "risk": "low"},
            {
                "id": "report",
                "title": "Write report.md and hand it in",
                "paths": ["report.md"],
                "risk": "low",
            },
        ],
        "acceptance": [
            {"criterion_id": "report", "how": "report.md is delivered as an artifact with its digest"}
        ],
        "risks": [
            {
                "description": "A file is no UTF-8 text",
                "level": "low",
                "mitigation": "it is counted, and named in the report as unread",
            }
        ],
    }
    Path("plan.json").write_text(json.dumps(plan, indent=2), encoding="utf-8")
    return _skill("submit-plan", "submit_plan.py", "plan.json")


def _submit_result(inspection: Inspection) -> int:
    """Write the report and hand it in."""
    report = render(inspection)
    path = Path("report.md")
    path.write_text(report, encoding="utf-8")
    total = sum(inspection.lines.values())
    result = {
        "outcome": "success",
        "summary": f"{len(inspection.files)} files with {total} lines were inspected; report.md says what was found.",
        "changes": ["report.md: written"],
        "evidence": [
            {"criterion_id": "report", "rank": "observed", "status": "pass", "artifact": _digest(path)}
        ],
        "deviations": [],
        "follow_ups": [],
    }
    Path("result.json").write_text(json.dumps(result, indent=2), encoding="utf-8")
    return _skill("submit-result", "submit_result.py", "result.json", "--artifact", "report.md:report")


def render(inspection: Inspection) -> str:
    """Write the report."""
    lines = [
        f"# Inspection of {inspection.root.name}",
        "",
        f"{len(inspection.files)} files, {sum(inspection.lines.values())} lines of text.",
        "",
        "| ending | files | lines |",
        "|---|---:|---:|",
        *(f"| `{e}` | {n} | {inspection.lines.get(e, 0)} |" for e, n in inspection.endings.most_common(15)),
        "",
    ]
    if inspection.functions:
        lines += [
            "## The longest functions",
            "",
            *(f"- {n} lines: `{name}`" for n, name in inspection.functions),
            "",
        ]
    if inspection.unreadable:
        lines += [f"{len(inspection.unreadable)} files are no UTF-8 text, among them:", ""]
        lines += [f"- `{name}`" for name in inspection.unreadable[:10]]
    return "\n".join(lines) + "\n"


def _digest(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def _skill(skill: str, script: str, *arguments: str) -> int:
    """Run a skill's script; end with its exit code when it refuses."""
    command = [sys.executable, str(_SKILLS / skill / "scripts" / script), *arguments]
    code = subprocess.run(command, check=False).returncode
    if code != 0:
        sys.exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
