"""Hydration: the skill set of a project, from one central definition, in each of its workspaces."""

from agentic_os.hydration.addition import Addition, AdditionConflict, carry_out, plan_addition
from agentic_os.hydration.comparison import SkillDifference, compare_skills, described, hydrated_skills
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
from agentic_os.hydration.workspace import Change, Report, hydrate

__all__ = [
    "DEFAULT_PROJECT",
    "PACKAGE_ROOT",
    "Addition",
    "AdditionConflict",
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
    "SkillDifference",
    "SkillSet",
    "SourceRoot",
    "WorkspaceError",
    "carry_out",
    "check",
    "compare_skills",
    "coverage",
    "described",
    "explain",
    "hydrate",
    "hydrated_skills",
    "load_definition",
    "packaged_skills",
    "plan_addition",
    "resolve",
    "resolve_all",
    "validate_skill",
]
