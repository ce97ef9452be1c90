"""Plans and results in fixed markers, for executors that can only write text: read and written."""

import re

from agentic_os.contracts.canonical import JsonValue
from agentic_os.contracts.marked_sections import FORMS, ID, Section, refuse
from agentic_os.contracts.violation import ContractViolation

_BEGIN = re.compile(rf"AOS:[A-Z]+ v[0-9]+ task={ID} attempt=[0-9]+\s*")
_END = re.compile(r"AOS:END\s*")
_HEADING = re.compile(r"## (.+?)\s*")


class NotExpressible(ValueError):
    """The document says what marked text cannot; send it structured."""


def parse_marked(text: str, *, kind: str, task_id: str, attempt: int) -> dict[str, JsonValue]:
    """Read a marked plan or result into its structured form.

    Raises ContractViolation: `marker_missing` or `section_missing`, with the number of the line.
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    begin, end = _find_markers(lines, f"AOS:{kind.upper()} v1 task={task_id} attempt={attempt}")
    sections = _split_sections(lines, begin, end, kind)
    body: dict[str, JsonValue] = {}
    for name, form in FORMS[kind].items():
        if name in sections:
            body[form.member] = form.read(sections[name])
        elif not form.optional:
            refuse(f"the section '## {name}' is missing between lines {begin + 1} and {end + 1}")
    return body


def render_marked(kind: str, task_id: str, attempt: int, body: dict[str, JsonValue]) -> str:
    """Write a plan or result in markers; a list that the body lacks is written, and reads back, as empty.

    Raises NotExpressible where reading it back would not give the same body.
    """
    parts = [f"AOS:{kind.upper()} v1 task={task_id} attempt={attempt}"]
    expected = dict(body)
    for name, form in FORMS[kind].items():
        if form.member in body or not form.optional:
            expected.setdefault(form.member, [])
            try:
                parts.append(f"## {name}\n{form.write(expected[form.member])}")
            except (KeyError, TypeError, AttributeError) as error:
                raise NotExpressible(f"{form.member} is not in the form of the contract") from error
    text = "\n\n".join([*parts, "AOS:END\n"])
    try:
        same = parse_marked(text, kind=kind, task_id=task_id, attempt=attempt) == expected
    except ContractViolation as violation:
        raise NotExpressible(f"marked text cannot say this {kind}: {violation}") from violation
    if not same:
        raise NotExpressible(f"marked text cannot say all of this {kind}; send it structured")
    return text


def _find_markers(lines: list[str], expected: str) -> tuple[int, int]:
    """Find the lines of the two markers, counted from 0."""
    begins = [index for index, line in enumerate(lines) if _BEGIN.fullmatch(line)]
    if not begins:
        near = next((f"; line {n} is not exact" for n, line in enumerate(lines, 1) if "AOS:" in line), "")
        refuse(
            f"the marker '{expected}' is missing; it stands alone on its line{near}", code="marker_missing"
        )
    begin = begins[0]
    if lines[begin].rstrip() != expected:
        refuse(
            f"line {begin + 1}: the marker is '{lines[begin].strip()}', but this is '{expected}'",
            code="marker_missing",
        )
    if len(begins) > 1:
        refuse(f"line {begins[1] + 1}: a second marker; send one document", code="marker_missing")
    ends = (index for index in range(begin, len(lines)) if _END.fullmatch(lines[index]))
    end = next(ends, None)
    if end is None:
        refuse(f"the marker 'AOS:END' is missing after line {begin + 1}", code="marker_missing")
    return begin, end


def _split_sections(lines: list[str], begin: int, end: int, kind: str) -> dict[str, Section]:
    known = FORMS[kind]
    sections: dict[str, Section] = {}
    current: Section | None = None
    for number, line in enumerate(lines[begin + 1 : end], begin + 2):
        if heading := _HEADING.fullmatch(line):
            current = Section(heading[1], number)
            if current.name not in known:
                refuse(f"line {number}: unknown section '{line.strip()}' (known: {', '.join(known)})")
            if current.name in sections:
                refuse(f"line {number}: the section '## {current.name}' comes twice")
            sections[current.name] = current
        elif current:
            current.lines.append(line)
        elif line.strip():
            refuse(f"line {number}: text before the first section; start with '## {next(iter(known))}'")
    return sections
