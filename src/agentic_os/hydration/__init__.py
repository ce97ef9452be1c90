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
    read_definition,
)
from agentic_os.hydration.drift import Drift, check
from agentic_os.hydration.locking import SKILLS, hold_to, lock, lock_folder, lock_text, text_of
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
from agentic_os.hydration.survey import against, failed, hydrate_all, survey
from agentic_os.hydration.withdrawal import hydrated, withdraw
from agentic_os.hydration.workspace import Change, Report, hydrate

__all__ = [
    "DEFAULT_PROJECT",
    "PACKAGE_ROOT",
    "SKILLS",
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
    "against",
    "carry_out",
    "check",
    "compare_skills",
    "coverage",
    "described",
    "explain",
    "failed",
    "hold_to",
    "hydrate",
    "hydrate_all",
    "hydrated",
    "hydrated_skills",
    "load_definition",
    "lock",
    "lock_folder",
    "lock_text",
    "packaged_skills",
    "plan_addition",
    "read_definition",
    "resolve",
    "resolve_all",
    "survey",
    "text_of",
    "validate_skill",
    "withdraw",
]
