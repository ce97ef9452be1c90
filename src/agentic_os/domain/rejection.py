"""How the decider refuses: a code from a closed set, and words for whoever asked."""

from typing import Literal, TypeAlias

from agentic_os.domain.policy import Verdict

Code: TypeAlias = Literal[
    "attempt_superseded",
    "brief_mismatch",
    "budget_exceeded",
    "confirmation_required",
    "digest_mismatch",
    "items_required",
    "lease_lost",
    "not_permitted",
    "output_invalid",
    "plan_unapproved",
    "plan_unchanged",
    "policy_denied",
    "replan_cap",
    "review_items_unanswered",
    "scope_denied",
    "self_review",
    "seq_stale",
    "skill_drift",
    "token_expired",
    "tool_denied",
    "unknown_criterion",
    "unknown_task",
    "wrong_phase",
]


class Rejected(Exception):
    """The subject says no.

    next: what would help, or the line to write instead. pointers: the offending fields. rule: what exactly
    refused, where that is finer than the code. denial: the verdict, where policy refused.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        next_step: str = "",
        pointers: tuple[str, ...] = (),
        rule: str = "",
        denial: Verdict | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.next = next_step
        self.pointers = pointers
        self.rule = rule or code
        self.denial = denial
