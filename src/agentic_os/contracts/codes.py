"""What each code of a refusal means, and what helps where the server's own words depend on the task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a code says of a request; next: what to do, for codes whose `next` the server writes for the case."""

    text: str
    next: str = ""


_OVER = "Stop work on this attempt; if there is to be another one, it comes with a new brief."
_PERSON = "Read the message; it says which right is missing, and an administrator can give it."

MEANINGS: Final[Mapping[str, Meaning]] = {
    "malformed": Meaning("The body is not JSON in UTF-8."),
    "credential_invalid": Meaning(
        "There is no bearer token in the request, or not one that was issued here."
    ),
    "token_expired": Meaning(
        "The token was issued here and does not count any more: revoked, expired, or replaced by a later ack."
    ),
    "budget_exceeded": Meaning(
        "The budget of the task or of its project is used up.",
        "Stop. What is done already can still be handed in as a plan or result.",
    ),
    "scope_denied": Meaning(
        "The credential is known, and not for this task, attempt, kind or address; "
        "or a task was asked for with more rights than its parent has."
    ),
    "tool_denied": Meaning("A tool was used that this task does not allow.", "Keep to the brief's tools."),
    "self_review": Meaning("Whoever made a document, or owns who made it, may not approve it."),
    "not_permitted": Meaning("The role of the caller does not allow this.", _PERSON),
    "policy_denied": Meaning(
        "A rule of the governance folder says no.", "Read the message; it names the rule. Do not repeat it."
    ),
    "unknown_task": Meaning("There is no task with this id."),
    "not_found": Meaning("There is nothing at this address, or not yet."),
    "method_not_allowed": Meaning("The address exists, but not for this HTTP method."),
    "attempt_superseded": Meaning(
        "The attempt is over: the task was cancelled, given to another, or tried anew. "
        "A plan or result that came too late is kept in quarantine.",
        _OVER,
    ),
    "lease_lost": Meaning(
        "Nothing was heard in time, so the attempt has expired. "
        "A plan or result that came too late is kept in quarantine.",
        _OVER,
    ),
    "wrong_phase": Meaning(
        "The task or the attempt is at another point, for instance closed by a submission."
    ),
    "seq_stale": Meaning(
        "seq is not after the last accepted one of the attempt.",
        "Continue with the number that the message names.",
    ),
    "plan_unapproved": Meaning("A result was sent where an approved plan is needed first."),
    "plan_unchanged": Meaning(
        "The plan is the same as the version that was not accepted.",
        "Change the plan so that it meets the review, or escalate.",
    ),
    "brief_mismatch": Meaning(
        "The digest in the ack is not that of this attempt's brief.",
        "Read the brief again and hash its JSON line exactly as it stands.",
    ),
    "skill_drift": Meaning(
        "The skills of the workspace are not those in force; the problem's `expected` lists them.",
        "Have an administrator run bin/hydrate-runtime-skills for this workspace, then ack again.",
    ),
    "replan_cap": Meaning(
        "A plan or result was returned, or a plan found infeasible, too often; a person must look.",
        "Stop. An operator sends it on with /retry fresh, which forgets the counts.",
    ),
    "name_taken": Meaning("The name belongs to somebody else already.", "Choose another name."),
    "confirmation_required": Meaning(
        "The decision must name exactly what it decides on: a version and its digest.",
        "Write the line that the message gives.",
    ),
    "digest_mismatch": Meaning(
        "The document under review is not the one that was named.",
        "Read the version under review, and write the line that the message gives.",
    ),
    "conflict": Meaning("Somebody else changed the same thing at the same time.", "Try again in a moment."),
    "too_large": Meaning("The body, a text or an artifact is larger than its limit."),
    "schema_invalid": Meaning("It is JSON, but not what the contract allows; the pointers name the places."),
    "marker_missing": Meaning(
        "The marked text lacks its first or last marker, or has that of another attempt."
    ),
    "section_missing": Meaning("A section of the marked text is missing, or cannot be read."),
    "review_items_unanswered": Meaning(
        "The brief lists review items, and the new version does not answer each of them.",
        "Answer each item by its id in responds_to.",
    ),
    "items_required": Meaning(
        "Sending a document back needs a list of what should change.", "Add the items as a list."
    ),
    "unknown_criterion": Meaning("The task has no acceptance criterion with this id."),
    "idempotency_mismatch": Meaning(
        "This callback_id, or idempotency key, was used before with other content; or the header differs from it."
    ),
    "output_invalid": Meaning(
        "A result's output does not keep to the task's output_schema, or a hand-off's payload to its role's.",
        "Correct what the pointers name, and send it again.",
    ),
    "secret_in_artifact": Meaning(
        "An artifact holds what looks like a secret.", "Take the secret out, and revoke it where it counts."
    ),
    "rate_limited": Meaning("Too much was sent in too short a time.", "Wait as long as Retry-After says."),
    "internal": Meaning("The server itself failed."),
    "gate_error": Meaning("The server could not decide just now, so it let nothing pass."),
}
