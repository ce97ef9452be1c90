"""The sections of a marked plan or result: how each is read, and how it is written."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from agentic_os.contracts.violation import ContractViolation

ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_NONE = re.compile(r"(?:[-*] )?none\.?", re.IGNORECASE)
_BULLET = re.compile(r"[-*] +(\S.*)")
_KEYED = re.compile(rf"\[({ID})\] +(\S.*)", re.DOTALL)
_LEVELLED = re.compile(r"\((low|medium|high|critical)\) +(\S.*)", re.DOTALL)
_MITIGATION = re.compile(r"(?:\. |\n)Mitigation: ")
_STEP_ATTRIBUTES = ("paths", "tools", "risk")
_STEP = re.compile(r"(.*?) +\(((?:paths|tools|risk): .*)\)")
_UNKNOWN_ATTRIBUTE = re.compile(r"\((\w+): [^()]*\)$")
_EVIDENCE_ATTRIBUTES = ("rank", "command", "exit")
_EVIDENCE = re.compile(r"(pass|fail|inconclusive)(?: +\((.*)\))?")
_EXIT_CODE = re.compile(r"-?[0-9]{1,3}")
_OUTCOMES = ("success", "partial", "no_change")


@dataclass(frozen=True, slots=True)
class Section:
    """One section as it stands in the text; `line` is its heading's number."""

    name: str
    line: int
    lines: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Join the lines, without blanks around them; an empty section is refused."""
        text = "\n".join(line if line.strip() else "" for line in self.lines).strip()
        return text or refuse(
            f"line {self.line}: the section '## {self.name}' is empty; write 'none' for nothing"
        )


@dataclass(frozen=True, slots=True)
class Form:
    """How one section stands for one member of the body."""

    member: str
    read: Callable[[Section], Any]
    write: Callable[[Any], str]
    optional: bool = False


@dataclass(frozen=True, slots=True)
class _Item:
    line: int
    text: str

    def match(self, pattern: re.Pattern[str], form: str) -> re.Match[str]:
        found = pattern.fullmatch(self.text)
        return found or refuse(f"line {self.line}: write the item as '{form}'")


def refuse(message: str, *, code: str = "section_missing") -> NoReturn:
    """Refuse the marked text."""
    raise ContractViolation(code, message, ("/body/marked_text",))


def _read_items(section: Section) -> list[_Item]:
    if _NONE.fullmatch(section.text()):
        return []
    items: list[tuple[int, list[str]]] = []
    for number, line in enumerate(section.lines, section.line + 1):
        if bullet := _BULLET.fullmatch(line):
            items.append((number, [bullet[1]]))
        elif not line.strip():
            if items:
                items[-1][1].append("")
        elif items and line.startswith(("  ", "\t")):
            items[-1][1].append(line.removeprefix("\t") if line[0] == "\t" else line[2:])
        else:
            refuse(f"line {number}: start an item with '- ', and indent its further lines by two spaces")
    return [_Item(number, "\n".join(lines).strip()) for number, lines in items]


def _write_items(texts: list[str]) -> str:
    return "\n".join("- " + text.replace("\n", "\n  ") for text in texts) or "none"


def _texts(member: str) -> Form:
    return Form(member, lambda section: [item.text for item in _read_items(section)], _write_items)


def _keyed(member: str, key: str, value: str, *, optional: bool = False) -> Form:
    def read(section: Section) -> list[dict[str, str]]:
        matches = (item.match(_KEYED, f"- [id] {value}") for item in _read_items(section))
        return [{key: match[1], value: match[2]} for match in matches]

    def write(entries: list[dict[str, str]]) -> str:
        return _write_items([f"[{entry[key]}] {entry[value]}" for entry in entries])

    return Form(member, read, write, optional)


def _read_outcome(section: Section) -> str:
    outcome = section.text()
    if outcome not in _OUTCOMES:
        refuse(f"line {section.line}: the outcome is one of {', '.join(_OUTCOMES)}")
    return outcome


def _read_attributes(text: str, known: tuple[str, ...], line: int) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for part in re.split(rf"; *(?=(?:{'|'.join(known)}):)", text):
        name, _, value = part.partition(": ")
        if name not in known or name in attributes or not value.strip():
            refuse(f"line {line}: in '{part}', write each of {', '.join(known)} once, as 'name: value'")
        attributes[name] = value.strip()
    return attributes


def _read_names(text: str, line: int) -> list[str]:
    if text == "none":
        return []
    names = [name.strip() for name in text.split(",")]
    if not all(names) or ";" in text:
        refuse(f"line {line}: separate the names by ', ' in '{text}'")
    return names


def _read_step(item: _Item) -> dict[str, Any]:
    keyed = item.match(_KEYED, "- [id] title (paths: a, b; tools: x; risk: low)")
    headline, _, detail = keyed[2].partition("\n")
    step: dict[str, Any] = {"id": keyed[1], "title": headline}
    if match := _STEP.fullmatch(headline):
        step["title"] = match[1]
        for name, value in _read_attributes(match[2], _STEP_ATTRIBUTES, item.line).items():
            step[name] = value if name == "risk" else _read_names(value, item.line)
    elif unknown := _UNKNOWN_ATTRIBUTE.search(headline):
        refuse(f"line {item.line}: unknown attribute '{unknown[1]}' (known: {', '.join(_STEP_ATTRIBUTES)})")
    if detail.strip():
        step["detail"] = detail.strip()
    return step


def _write_step(step: dict[str, Any]) -> str:
    values = {
        name: step[name] if name == "risk" else ", ".join(step[name]) or "none"
        for name in _STEP_ATTRIBUTES
        if name in step
    }
    attributes = "; ".join(f"{name}: {value}" for name, value in values.items())
    detail = "\n" + step["detail"] if "detail" in step else ""
    return f"[{step['id']}] {step['title']}" + (f" ({attributes})" if attributes else "") + detail


def _read_risk(item: _Item) -> dict[str, str]:
    match = item.match(_LEVELLED, "- (low | medium | high | critical) text. Mitigation: text")
    description, *mitigation = _MITIGATION.split(match[2], maxsplit=1)
    risk = {"level": match[1], "description": description}
    return risk | {"mitigation": mitigation[0]} if mitigation else risk


def _write_risk(risk: dict[str, str]) -> str:
    mitigation = f". Mitigation: {risk['mitigation']}" if "mitigation" in risk else ""
    return f"({risk['level']}) {risk['description']}{mitigation}"


def _read_evidence(item: _Item) -> dict[str, Any]:
    form = "- [criterion] pass | fail | inconclusive (rank: observed; command: text; exit: 0)"
    keyed = item.match(_KEYED, form)
    match = _Item(item.line, keyed[2]).match(_EVIDENCE, form)
    attributes = _read_attributes(match[2], _EVIDENCE_ATTRIBUTES, item.line) if match[2] else {}
    evidence = {"criterion_id": keyed[1], "status": match[1], "rank": attributes.get("rank", "self_reported")}
    if "command" in attributes:
        evidence["command"] = attributes["command"]
    if "exit" in attributes:
        if not _EXIT_CODE.fullmatch(attributes["exit"]):
            refuse(f"line {item.line}: exit is a number, got '{attributes['exit']}'")
        evidence["exit_code"] = int(attributes["exit"])
    return evidence


def _write_evidence(evidence: dict[str, Any]) -> str:
    values = {"rank": evidence["rank"], "command": evidence.get("command"), "exit": evidence.get("exit_code")}
    attributes = "; ".join(f"{name}: {value}" for name, value in values.items() if value is not None)
    return f"[{evidence['criterion_id']}] {evidence['status']} ({attributes})"


def _listed(member: str, read: Callable[[_Item], Any], write: Callable[[Any], str]) -> Form:
    return Form(
        member,
        lambda section: [read(item) for item in _read_items(section)],
        lambda entries: _write_items([write(entry) for entry in entries]),
    )


FORMS: dict[str, dict[str, Form]] = {
    "plan": {
        "Summary": Form("summary", Section.text, str),
        "Steps": _listed("steps", _read_step, _write_step),
        "Acceptance": _keyed("acceptance", "criterion_id", "how"),
        "Risks": _listed("risks", _read_risk, _write_risk),
        "Responses": _keyed("responds_to", "item_id", "how", optional=True),
    },
    "result": {
        "Summary": Form("summary", Section.text, str),
        "Outcome": Form("outcome", _read_outcome, str),
        "Changes": _texts("changes"),
        "Evidence": _listed("evidence", _read_evidence, _write_evidence),
        "Deviations": _keyed("deviations", "step_id", "why"),
        "Follow-ups": _texts("follow_ups"),
        "Responses": _keyed("responds_to", "item_id", "how", optional=True),
    },
}
