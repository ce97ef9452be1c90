"""Names, effective sets and digests of skills; and the same digests in the scripts of the skills."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import agentic_os_contract as scripts
import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_os.contracts.canonical import MAX_INTEGER, canonical_json
from agentic_os.contracts.schema import callback_examples, callback_schema
from agentic_os.domain.skill_set import (
    InvalidSkill,
    SkillFile,
    check_front_matter,
    check_skill_name,
    effective_names,
    skill_set_digest,
    tree_digest,
)
from agentic_os.hydration import hydrate, load_definition, resolve
from agentic_os.hydration.resolution import scan_tree

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(TEXT, children, max_size=4),
)


@pytest.mark.parametrize("name", ["a", "start-work", "x2-3", "a" * 64])
def test_a_name_of_the_standard_is_accepted(name: str):
    """Lower-case words and digits joined by hyphens are names."""
    assert name == check_skill_name(name)


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a--b", "a/b", "..", "a\n", "a" * 65, "\u00e9"])
def test_any_other_name_is_refused(name: str):
    """What could leave a folder, or be read in two ways, is no name."""
    with pytest.raises(InvalidSkill):
        check_skill_name(name)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "b", "description": "d"}, "that of its folder"),
        ({"name": "a"}, "description must be a text"),
        ({"name": "a", "description": " "}, "description must be a text"),
        ({"name": "a", "description": "d" * 1025}, "of 1 to 1024"),
        ({"name": "a", "description": "d", "compatibility": "c" * 501}, "compatibility"),
        ({"name": "a", "description": "d", "model": "x"}, "unknown field model"),
    ],
)
def test_front_matter_is_held_to_the_standard(fields: dict[str, object], words: str):
    """Each rule of the standard has its refusal."""
    with pytest.raises(InvalidSkill, match=words):
        check_front_matter("a", fields)


def test_an_effective_set_joins_lists_in_order():
    """A skill that several lists name comes once, where it came first."""
    assert effective_names(["b", "a"], ["c"], ["a", "d"]) == ("b", "a", "c", "d")


def test_the_set_of_no_skills_has_the_digest_of_nothing():
    """Executors without skills send the SHA-256 of nothing, and an empty set is the same."""
    nothing = "sha256:" + hashlib.sha256(b"").hexdigest()
    assert nothing == skill_set_digest({}) == scripts.NO_SKILLS_DIGEST == scripts.skill_set_digest({})


def test_a_tree_digest_depends_on_path_bit_and_content_alone():
    """Each part of a file counts, and the order of listing does not."""
    one, two = (
        SkillFile("a", executable=False, sha256="0" * 64),
        SkillFile("b", executable=True, sha256="1" * 64),
    )
    digest = tree_digest([one, two])
    assert digest == tree_digest([two, one])
    others = [
        tree_digest([one]),
        tree_digest([one, SkillFile("c", executable=True, sha256="1" * 64)]),
        tree_digest([one, SkillFile("b", executable=False, sha256="1" * 64)]),
        tree_digest([one, SkillFile("b", executable=True, sha256="2" * 64)]),
    ]
    assert len({digest, *others}) == 5


def test_scripts_and_backend_digest_trees_alike(make_skill: Callable[..., Path]):
    """A tree with nested folders, an executable file, odd names and bytecode has one digest in both."""
    folder = make_skill("a")
    (folder / "scripts" / "z").mkdir()
    (folder / "scripts" / "z" / "\u00e9 b").write_bytes(b"\x00\xff")
    (folder / "scripts-2").write_text("sorts before scripts/")
    (folder / "scripts" / "__pycache__").mkdir()
    (folder / "scripts" / "__pycache__" / "run.pyc").write_bytes(b"x")
    assert tree_digest(scan_tree(folder)) == scripts.tree_digest(folder)


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_scripts_and_backend_digest_a_workspace_alike(
    workspace: Path, make_skill: Callable[..., Path], make_definition: Callable[..., Path], mode: Any
):
    """The digest that `ack` carries is the one that the definition gives, until a file differs."""
    skill = make_skill("a")
    make_skill("b")
    skill_set = resolve(load_definition(make_definition("a", "b")), "default")
    hydrate(workspace, skill_set, mode=mode)
    assert skill_set.digest == scripts.skill_set_digest(scripts.workspace_skills(workspace))
    changed = skill if mode == "link" else workspace / ".claude/skills/a"
    (changed / "SKILL.md").write_text("tampered")
    assert skill_set.digest != scripts.skill_set_digest(scripts.workspace_skills(workspace))


def test_a_missing_skill_is_left_out_of_the_digest(
    workspace: Path, make_skill: Callable[..., Path], make_definition: Callable[..., Path]
):
    """A workspace that lost a skill does not claim it."""
    make_skill("a")
    make_skill("b")
    hydrate(workspace, resolve(load_definition(make_definition("a", "b")), "default"))
    (workspace / ".claude/skills/b").unlink()
    assert list(scripts.workspace_skills(workspace)) == ["a"]


@given(JSON)
def test_scripts_write_canonical_json_as_the_backend_does(value: Any):
    """A brief from the backend has the same digest on both sides, floats and keys beyond ASCII included."""
    assert canonical_json(value) == scripts.canonical_json(value)


@given(st.floats(1, 10), st.integers(-9, 24))
def test_scripts_write_numbers_of_each_size_as_the_backend_does(digits: float, exponent: int):
    """Where the notation of numbers changes, it changes on both sides."""
    for value in (digits * 10.0**exponent, -(10.0**exponent)):
        assert canonical_json(value) == scripts.canonical_json(value)


def test_the_schema_of_the_scripts_is_the_published_one():
    """The copy beside the scripts is byte for byte the normative schema."""
    assert callback_schema() == Path(scripts.__file__).with_name("callback.v1.schema.json").read_bytes()


BODIES = [
    (document["kind"], document["body"])
    for document in map(json.loads, callback_examples().values())
    if "marked_text" not in document["body"]
]


@given(st.sampled_from(BODIES), st.data())
def test_scripts_judge_documents_as_the_schema_does(example: tuple[str, dict[str, Any]], data: st.DataObject):
    """Whatever is changed in a document, the scripts' check and the schema agree on it."""
    kind, body = example
    body = json.loads(json.dumps(body))
    place: Any = body
    while isinstance(place, dict | list) and place and data.draw(st.booleans()):
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            others = [
                "null",
                "true",
                "0",
                "-1",
                "1.5",
                "2.0",
                '""',
                '"a b"',
                '"s1"',
                "[]",
                "{}",
                '["x"]',
                '{"x":1}',
            ]
            place[key] = json.loads(data.draw(st.sampled_from(others)))
            break
        place = place[key]
    schema = json.loads(callback_schema())
    validator = jsonschema_rs.validator_for(
        {"$schema": schema["$schema"], "$defs": schema["$defs"], "$ref": f"#/$defs/{kind}"},
        validate_formats=True,
    )
    assert validator.is_valid(body) == (not scripts.schema_errors(kind, body))
