"""Hydration: the skill set of a project, from one central definition, in each of its workspaces."""

from agentic_os.hydration.coverage import Coverage, coverage
from agentic_os.hydration.definition import (
    DEFAULT_PROJECT,
    PACKAGE_ROOT,
    Definition,
    DefinitionError,
    Override,
    SourceRoot,
    load_definition,
    packaged_skills,
)
from agentic_os.hydration.drift import Drift, check
from agentic_os.hydration.places import Mode, WorkspaceError
from agentic_os.hydration.resolution import (
    Explanation,
    Skill,
    SkillSet,
    explain,
    resolve,
    resolve_all,
    validate_skill,
)
from agentic_os.hydration.withdrawal import hydrated, withdraw
from agentic_os.hydration.workspace import Change, Report, hydrate

__all__ = [
    "DEFAULT_PROJECT",
    "PACKAGE_ROOT",
    "Change",
    "Coverage",
    "Definition",
    "DefinitionError",
    "Drift",
    "Explanation",
    "Mode",
    "Override",
    "Report",
    "Skill",
    "SkillSet",
    "SourceRoot",
    "WorkspaceError",
    "check",
    "coverage",
    "explain",
    "hydrate",
    "hydrated",
    "load_definition",
    "packaged_skills",
    "resolve",
    "resolve_all",
    "validate_skill",
    "withdraw",
]
