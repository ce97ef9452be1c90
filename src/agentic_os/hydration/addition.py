"""Adding a skill to a definition: its folder into a source root, its name into a list of the skills.yaml."""

import json
import os
import re
import secrets
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from agentic_os.domain.skill_set import InvalidSkill, check_skill_name, tree_digest
from agentic_os.hydration.definition import PACKAGE_ROOT, Definition, DefinitionError, load_definition
from agentic_os.hydration.resolution import scan_tree, validate_skill

_PLAIN_KEY = re.compile(r"[A-Za-z][\w-]*", re.ASCII)


class AdditionConflict(Exception):
    """Something else stands where the skill would go, or before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """What adding a skill comes to; nothing is written yet.

    `listed_in` is the list that gives the skill; `text` is the definition as it was, and `new_text` as it would be.
    `copied` tells whether the folder is not there yet.
    """

    name: str
    source: Path
    place: Path
    digest: str
    copied: bool
    definition: Path
    listed_in: str
    text: str
    new_text: str


def plan_addition(name: str, source: Path, definition_file: Path, project: str | None = None) -> Addition:
    """Plan to copy a skill into the first source root that is a folder, and to list it for all or for one project.

    Raises DefinitionError for a skill or a definition that is wrong, AdditionConflict where one is in the way.
    """
    try:
        check_skill_name(name)
    except InvalidSkill as error:
        raise DefinitionError(f"{source}: {error}") from error
    source = source.resolve()
    if source.name != name:
        raise DefinitionError(f"{source}: the folder of the skill {name!r} must have its name")
    digest = tree_digest(validate_skill(source))
    definition = load_definition(definition_file)
    place, copied = _place(definition, name, source, digest)
    text = definition_file.read_text(encoding="utf-8")
    key = f"project_defaults.{project}" if project else "global_defaults"
    lists = definition.lists_with(name, project or "")
    new_text = text if lists else _listed(text, name, project)
    if not lists:
        _check_result(definition, definition_file, new_text, name, project)
    return Addition(
        name=name,
        source=source,
        place=place,
        digest=digest,
        copied=copied,
        definition=definition_file,
        listed_in=lists[0] if lists else key,
        text=text,
        new_text=new_text,
    )


def carry_out(addition: Addition) -> None:
    """Copy the folder, then write the definition, each whole or not at all.

    Raises AdditionConflict where something changed since it was planned.
    """
    if addition.definition.read_text(encoding="utf-8") != addition.text:
        raise AdditionConflict(f"{addition.definition}: was changed in the meantime; run again")
    if addition.copied:
        _copy(addition)
    if addition.new_text != addition.text:
        new = addition.definition.with_name(f".{addition.definition.name}.{secrets.token_hex(4)}.tmp")
        new.write_text(addition.new_text, encoding="utf-8")
        new.chmod(addition.definition.stat().st_mode & 0o777)
        new.replace(addition.definition)


def _copy(addition: Addition) -> None:
    new = addition.place.with_name(f".{addition.name}.{secrets.token_hex(4)}.tmp")
    try:
        shutil.copytree(addition.source, new, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
        if tree_digest(scan_tree(new)) != addition.digest:
            raise AdditionConflict(f"{addition.source}: was changed while it was copied; run again")
        if os.path.lexists(addition.place):
            raise AdditionConflict(f"{addition.place}: appeared in the meantime; run again")
        new.rename(addition.place)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _place(definition: Definition, name: str, source: Path, digest: str) -> tuple[Path, bool]:
    roots = definition.source_roots
    local = next((root for root in roots if root.label != PACKAGE_ROOT), None)
    if local is None:
        raise DefinitionError(
            f"{definition.origin}: has no source root of its own; write source_roots: [./skills, {PACKAGE_ROOT}]"
        )
    place = local.path / name
    for root in roots[: roots.index(local)]:
        if os.path.lexists(root.path / name):
            raise AdditionConflict(
                f"{root.label}: has a skill {name!r} already, and comes before {local.label}"
            )
    if place == source:
        return place, False
    if os.path.lexists(place):
        try:
            same = place.is_dir() and tree_digest(scan_tree(place)) == digest
        except (InvalidSkill, OSError):
            same = False
        if not same:
            raise AdditionConflict(f"{place}: is there already, and differs; nothing is overwritten")
        return place, False
    return place, True


def _listed(text: str, name: str, project: str | None) -> str:
    """Write the name into its list and leave every other byte as it is."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode), "it was loaded"
    if project is None:
        return _append(text, _member(root, "global_defaults"), name)
    projects = _member(root, "project_defaults")
    if projects is None:
        if root.flow_style:
            return _insert(text, root, f'"project_defaults": {{{json.dumps(project)}: ["{name}"]}}')
        head = text if text.endswith("\n") else text + "\n"
        return f"{head}\nproject_defaults:\n  {_key(project)}: [{name}]\n"
    own = _member(projects, project)
    if own is not None:
        return _append(text, own, name)
    return _append_member(text, projects, f"{_key(project)}: [{name}]")


def _member(node: yaml.Node, key: str) -> yaml.Node | None:
    assert isinstance(node, yaml.MappingNode), "it was loaded"
    return next((value for name, value in node.value if name.value == key), None)


def _append(text: str, node: yaml.Node | None, name: str) -> str:
    assert isinstance(node, yaml.SequenceNode), "it was loaded"
    if node.flow_style or not node.value:
        return _insert(text, node, name)
    return _new_line(text, node.value[-1], node.start_mark.column, f"- {name}")


def _append_member(text: str, node: yaml.Node, member: str) -> str:
    assert isinstance(node, yaml.MappingNode), "it was loaded"
    if node.flow_style or not node.value:
        return _insert(text, node, member)
    return _new_line(text, node.value[-1][1], node.start_mark.column, member)


def _insert(text: str, node: yaml.CollectionNode, words: str) -> str:
    """Write before the bracket that ends a list or a mapping."""
    end = node.end_mark.index - 1
    body = text[:end].rstrip()
    separator = "" if not node.value else " " if body.endswith(",") else ", "
    return f"{body}{separator}{words}{text[len(body) :]}"


def _new_line(text: str, last: yaml.Node, column: int, words: str) -> str:
    """Write a line of its own after the one on which the last member ends, comment included."""
    while isinstance(last, yaml.CollectionNode) and not last.flow_style and last.value:
        inner = last.value[-1]
        last = inner[1] if isinstance(inner, tuple) else inner
    newline = text.find("\n", last.end_mark.index)
    head, tail = (text + "\n", "") if newline < 0 else (text[: newline + 1], text[newline + 1 :])
    return f"{head}{' ' * column}{words}\n{tail}"


def _key(project: str) -> str:
    plain = _PLAIN_KEY.fullmatch(project) and yaml.safe_load(project) == project
    return project if plain else json.dumps(project)


def _check_result(before: Definition, file: Path, text: str, name: str, project: str | None) -> None:
    """See that the new text says exactly what was meant; a file that was written in an odd way is left to its owner."""
    if project is None:
        wanted = replace(before, global_defaults=(*before.global_defaults, name))
    else:
        own = (*before.project_defaults.get(project, ()), name)
        wanted = replace(before, project_defaults={**before.project_defaults, project: own})
    beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}.tmp")
    try:
        beside.write_text(text, encoding="utf-8")
        found = replace(load_definition(beside), origin=before.origin)
    except DefinitionError:
        found = None
    finally:
        beside.unlink(missing_ok=True)
    if found != wanted:
        raise DefinitionError(f"{file}: {name!r} cannot be added to it here; write it into the list by hand")
