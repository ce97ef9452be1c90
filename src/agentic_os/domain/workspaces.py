"""What is known of the skills in workspaces, and which executors they keep away from work."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from shlex import quote
from typing import Final, Literal, TypeAlias

from agentic_os.domain.organisation import Organisation
from agentic_os.domain.skill_lock import LockedSet, SkillLock

Reported: TypeAlias = Literal["in_step", "drift", "conflict", "failed"]
"""drift: it differs. conflict: files that are not ours are in the way. failed: it cannot be read or hydrated."""

WAIT: Final = "skills:"
"""What a task waits for begins with it where skills keep executors away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceReport:
    """What was found in a workspace when it was last looked at. digest: of the skills that it was compared with.

    lacking: the skills that are not there as they should be.
    """

    path: str
    project: str
    digest: str
    state: Reported
    problem: str = ""
    lacking: tuple[str, ...] = ()
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a workspace stands to the skills in force now. next: what to do about it."""

    state: Literal["in_step", "drift", "conflict", "failed", "unknown"]
    problem: str = ""
    next: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillGap:
    """What keeps one executor from a project's tasks. role: whose requirement, "" for every role.

    skill: "" where it is not for one skill. kind: `undefined`, the definition in force does not give the skill;
    `absent`, the workspace lacks it; else how the workspace stands.
    """

    executor: str
    project: str
    kind: Literal["undefined", "absent", "drift", "conflict", "failed"]
    role: str = ""
    skill: str = ""
    workspace: str = ""

    def __str__(self) -> str:
        """Say which skill, whose role, and what to do."""
        of = f"the role {self.role} of {self.executor} requires the skill {self.skill}"
        match self.kind:
            case "undefined":
                return (
                    f"{of}, which the skills in force for the project {self.project} do not give "
                    f"(add it to governance/skills.yaml, then agentic-os apply)"
                )
            case "absent":
                return (
                    f"{of}, which its workspace {self.workspace} lacks ({mend(self.workspace, self.project)})"
                )
            case _:
                return (
                    f"{self.executor} works in {self.workspace}, {_WORDS[self.kind]} "
                    f"({mend(self.workspace, self.project)})"
                )

    def as_wait(self) -> str:
        """Write it as something that a task waits for."""
        parts = [self.executor, self.project, self.kind, self.role, self.skill, self.workspace]
        return WAIT + json.dumps(parts, ensure_ascii=False, separators=(",", ":"))


_WORDS: Final = {
    "drift": "whose skills are not those in force",
    "conflict": "where files of others are in the way of skills",
    "failed": "whose skills could not be hydrated",
}


def mend(workspace: str, project: str) -> str:
    """Write what brings a workspace in step, and tells the backend so."""
    return f"agentic-os skills hydrate --project {quote(project)} --workspace {quote(workspace)} --report"


def gaps_in(waits: Iterable[str]) -> list[SkillGap]:
    """Read from what a task waits for whom skills keep away from it."""
    found = []
    for wait in waits:
        if wait.startswith(WAIT):
            executor, project, kind, role, skill, workspace = json.loads(wait.removeprefix(WAIT))
            found.append(
                SkillGap(
                    executor=executor,
                    project=project,
                    kind=kind,
                    role=role,
                    skill=skill,
                    workspace=workspace,
                )
            )
    return found


def standing(report: WorkspaceReport, in_force: LockedSet) -> Standing:
    """Say how a workspace stands, as far as a report of it tells; one of other skills tells only of what failed."""
    following = mend(report.path, report.project)
    if report.state in ("conflict", "failed"):
        return Standing(state=report.state, problem=report.problem, next=following)
    if report.digest != in_force.digest:
        problem = "other skills came into force since it was looked at"
        return Standing(state="unknown", problem=problem, next=following)
    if report.state == "in_step":
        return Standing(state="in_step")
    return Standing(state=report.state, problem=report.problem, next=following)


def gaps(
    executor: str,
    roles: Sequence[str],
    *,
    project: str,
    lock: SkillLock,
    organisation: Organisation,
    report: WorkspaceReport | None,
    exempt: bool,
) -> tuple[SkillGap, ...]:
    """List what keeps an executor from a project's tasks: skills that its roles require, and its workspace.

    exempt: whether it need not acknowledge with the digest of its skills. Then drift keeps it from nothing but what
    its roles require; a workspace that could not be hydrated keeps it away all the same.
    """
    in_force = lock.of(project)
    required = [(role, skill) for role in roles for skill in _required(organisation, role)]
    found = [
        SkillGap(executor=executor, project=project, kind="undefined", role=role, skill=skill)
        for role, skill in required
        if skill not in in_force.names
    ]
    if report is None:
        return tuple(found)
    own = lock.of(report.project)
    state = standing(report, own).state
    if state in ("conflict", "failed") or (state == "drift" and not exempt):
        found.append(SkillGap(executor=executor, project=report.project, kind=state, workspace=report.path))
    elif state == "drift":
        found += [
            SkillGap(
                executor=executor,
                project=report.project,
                kind="absent",
                role=role,
                skill=skill,
                workspace=report.path,
            )
            for role, skill in required
            if skill in report.lacking
        ]
    return tuple(found)


def undefined(organisation: Organisation, lock: SkillLock) -> Mapping[str, tuple[str, ...]]:
    """List by role the required skills that no project has."""
    given = frozenset(name for each in lock.sets() for name in each.names)
    found = {
        role: tuple(skill for skill in declared.skills if skill not in given)
        for role, declared in organisation.roles.items()
    }
    return {role: skills for role, skills in found.items() if skills}


def _required(organisation: Organisation, role: str) -> tuple[str, ...]:
    return organisation.roles[role].skills if role in organisation.roles else ()
