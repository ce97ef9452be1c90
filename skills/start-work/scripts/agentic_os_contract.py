"""What the execution contract says of documents: canonical JSON, digests, briefs, the schema, markers.

Python's standard library only, from 3.9 on; shared by the scripts of all skills here.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

CONTRACT = "aos.execution/1"
MANIFEST = ".agents/skills/.agentic-os.json"
NO_SKILLS_DIGEST = "sha256:" + hashlib.sha256(b"").hexdigest()

# Exit codes, the same in every script.
USAGE, REFUSED, CREDENTIAL, DRIFT, NETWORK, NOT_STARTED, OVER, DOCUMENT, BRIEF = range(2, 11)

_BRIEF = re.compile(
    # Whole lines, and from the last heading to the end after it: what a goal quotes is not taken for the brief.
    r"^<!-- agentic-os:brief v1 task=(?P<task>\S+) attempt=(?P<attempt>[0-9]+) "
    r"digest=(?P<digest>sha256:[0-9a-f]{64}) -->\n"
    r"(?P<content>(?:(?!<!-- agentic-os:brief v1 )[^\n]*\n)*?)<!-- agentic-os:end -->$",
    re.MULTILINE,
)
_INSTANT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):([0-5]\d)(?:\.\d+)?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
)
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SECTIONS = {
    "plan": ("Summary", "Steps", "Acceptance", "Risks"),
    "result": ("Summary", "Outcome", "Changes", "Evidence", "Deviations", "Follow-ups"),
}


class Stop(Exception):
    """The script ends here: with what to tell the agent, and an exit code."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def canonical_json(value: Any) -> bytes:
    """Write JSON as RFC 8785 does."""
    return "".join(_canonical(value)).encode()


def _canonical(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        separator = "{"
        for key in sorted(value, key=lambda key: key.encode("utf-16-be")):
            yield separator + json.dumps(key, ensure_ascii=False) + ":"
            yield from _canonical(value[key])
            separator = ","
        yield "}" if value else "{}"
    elif isinstance(value, list):
        separator = "["
        for item in value:
            yield separator
            yield from _canonical(item)
            separator = ","
        yield "]" if value else "[]"
    elif isinstance(value, float):
        yield _number(value)
    else:
        yield json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    """Write a number as ECMAScript does: the shortest digits, plain from 1e-6 up to 1e21."""
    if value == 0:
        return "0"
    mantissa, _, exponent = repr(value).partition("e")
    mantissa, power = mantissa.removesuffix(".0"), int(exponent or 0)
    sign, digits = ("-" if value < 0 else ""), mantissa.lstrip("-").replace(".", "")
    # Python writes an exponent from 1e-5 down and from 1e16 up: in between the bounds, undo it.
    if power in (-5, -6):
        return f"{sign}0.{'0' * (-power - 1)}{digits}"
    if power in range(16, 21):
        return sign + digits.ljust(power + 1, "0")
    return f"{mantissa}e{power:+d}" if power else mantissa


def tree_digest(folder: Path) -> str:
    """Digest the files of a skill: path, executable bit and SHA-256 of each; raises OSError."""
    digest = hashlib.sha256()
    files = [path for path in folder.rglob("*") if "__pycache__" not in path.relative_to(folder).parts]
    for path in sorted(files, key=lambda path: path.relative_to(folder).as_posix().encode()):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            continue
        content = path.read_bytes() if stat.S_ISREG(mode) else b"not a plain file"
        executable = "x" if mode & stat.S_IXUSR else "-"
        for field in (path.relative_to(folder).as_posix(), executable, hashlib.sha256(content).hexdigest()):
            digest.update(field.encode() + b"\0")
    return "sha256:" + digest.hexdigest()


def skill_set_digest(digests: dict[str, str]) -> str:
    """Digest a skill set from the digests of its skills by name."""
    fields = (field for name in sorted(digests) for field in (name, digests[name]))
    return "sha256:" + hashlib.sha256(b"".join(field.encode() + b"\0" for field in fields)).hexdigest()


def workspace_skills(workspace: Path) -> dict[str, str]:
    """Digest the skills that hydration put into a workspace, by name, from their files as they are now.

    Where the folders of a skill differ, or one lacks, the skill counts as it is there.
    """
    try:
        manifest = json.loads((workspace / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Stop(
            DRIFT, f"{workspace / MANIFEST} cannot be read ({error}). Hydrate this workspace again."
        ) from error
    found = {}
    for name, skill in manifest["skills"].items():
        folders = [workspace / target / name for target in manifest["targets"]]
        digests = [tree_digest(folder) if folder.is_dir() else "missing" for folder in folders]
        found[name] = next((digest for digest in digests if digest != skill["digest"]), skill["digest"])
    return {name: digest for name, digest in found.items() if digest != "missing"}


def read_brief(text: str) -> tuple[dict[str, Any], str]:
    """Find the brief in an issue's text, check it against its digest, and return both."""
    sections = list(_BRIEF.finditer(text.replace("\r\n", "\n")))
    if not sections:
        raise Stop(
            BRIEF, "This text holds no brief (no line '<!-- agentic-os:brief v1 ... -->' with its end)."
        )
    found = sections[-1]
    for line in found["content"].split("\n"):
        brief = _sealed(line, found["digest"])
        if brief is not None:
            if (brief.get("task_id"), brief.get("attempt")) != (found["task"], int(found["attempt"])):
                raise Stop(BRIEF, "The brief is for another task or attempt than its heading says.")
            return check_brief(brief), found["digest"]
    raise Stop(
        BRIEF,
        f"No line of the brief has the digest {found['digest']}: it was changed, cut, or is only a summary.\n"
        f"Read it from the backend: start_work.py --from-backend --task {found['task']}",
    )


def _sealed(line: str, digest: str) -> dict[str, Any] | None:
    """Read a line that has this digest as a brief; a tracker may have written its escapes in another way."""
    try:
        brief = json.loads(line) if line.startswith("{") else None
        return brief if brief is not None and brief_digest(brief) == digest else None
    except (ValueError, OverflowError, RecursionError):
        return None


def check_brief(brief: Any) -> dict[str, Any]:
    """Return a brief that has what the scripts need; stops otherwise."""
    if not isinstance(brief, dict) or brief.get("contract") != CONTRACT:
        raise Stop(BRIEF, f"The brief is not of the contract {CONTRACT}.")
    if lacking := [name for name in ("task_id", "attempt", "step", "callback_url") if not brief.get(name)]:
        raise Stop(BRIEF, f"The brief lacks {', '.join(lacking)}.")
    return brief


def brief_digest(brief: Any) -> str:
    """Digest a brief that came as JSON."""
    return _digest(canonical_json(brief))


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def wrap_in_markers(kind: str, text: str, task_id: str, attempt: int) -> str:
    """Put a text that has the sections of a plan or result between its markers, unless it has them."""
    marker = f"AOS:{kind.upper()} v1 task={task_id} attempt={attempt}"
    lines = [line.rstrip() for line in text.splitlines()]
    if lacking := [name for name in _SECTIONS[kind] if f"## {name}" not in lines]:
        raise Stop(DOCUMENT, f"The {kind} lacks the section: " + ", ".join(f"## {name}" for name in lacking))
    marked = [line for line in lines if line.startswith("AOS:")]
    if not marked:
        return f"{marker}\n\n{text.strip()}\n\nAOS:END\n"
    if marked != [marker, "AOS:END"]:
        raise Stop(DOCUMENT, f"The markers must be '{marker}' and 'AOS:END', each once; or leave both out.")
    return text


def schema_errors(definition: str, value: Any) -> list[str]:
    """Check a body against one definition of the published schema; says what is wrong, or nothing."""
    schema = json.loads((Path(__file__).parent / "callback.v1.schema.json").read_text(encoding="utf-8"))
    return list(_errors(schema["$defs"], {"$ref": f"#/$defs/{definition}"}, value, ""))


def _errors(definitions: dict[str, Any], schema: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    where = path or "the document"
    expected = schema.get("type")
    if expected and not _is_of_type(value, expected):
        yield f"{where} must be of type {expected}"
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{where} must be one of {', '.join(schema['enum'])}"
    elif isinstance(value, dict):
        yield from _object_errors(definitions, schema, value, path)
    elif isinstance(value, list):
        yield from _length_errors(schema, len(value), "Items", where)
        for index, item in enumerate(value):
            yield from _errors(definitions, schema.get("items", {}), item, f"{path}/{index}")
    elif isinstance(value, str):
        yield from _length_errors(schema, len(value), "Length", where)
        if not re.search(schema.get("pattern", "").replace("$", r"\Z"), value):
            yield f"{where} must match {schema['pattern']}"
        if not _has_format(value, schema.get("format")):
            yield f"{where} must be a {schema['format']}"
    elif isinstance(value, (int, float)) and not (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
    ):
        yield f"{where} must be within {schema.get('minimum')} and {schema.get('maximum')}"


def _object_errors(
    definitions: dict[str, Any], schema: dict[str, Any], value: dict[str, Any], path: str
) -> Iterator[str]:
    known = schema.get("properties", {})
    where = path or "the document"
    yield from (f"{where} lacks '{name}'" for name in schema.get("required", ()) if name not in value)
    yield from _length_errors(schema, len(value), "Properties", where)
    for name, member in value.items():
        if name in known:
            yield from _errors(definitions, known[name], member, f"{path}/{name}")
        elif schema.get("additionalProperties") is False:
            yield f"{where} has surplus '{name}' (known: {', '.join(known)})"


def _length_errors(schema: dict[str, Any], length: int, what: str, where: str) -> Iterator[str]:
    counted = {"Items": "items", "Length": "characters", "Properties": "members"}[what]
    if length < schema.get("min" + what, 0):
        yield f"{where} must have at least {schema['min' + what]} {counted}, has {length}"
    if length > schema.get("max" + what, length):
        yield f"{where} must have at most {schema['max' + what]} {counted}, has {length}"


def _is_of_type(value: Any, expected: str) -> bool:
    if isinstance(value, bool):
        return expected == "boolean"
    if expected == "integer":
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    kinds = {"object": dict, "array": list, "string": str, "number": (int, float)}
    return expected in kinds and isinstance(value, kinds[expected])


def _has_format(value: str, expected: str | None) -> bool:
    if expected == "uuid":
        return bool(_UUID.fullmatch(value))
    if expected == "date-time":
        found = _INSTANT.fullmatch(value)
        try:
            if found:
                datetime(*map(int, found.groups()), tzinfo=timezone.utc)  # noqa: UP017 - its alias came with 3.11
        except ValueError:
            return False
        return bool(found)
    return True
