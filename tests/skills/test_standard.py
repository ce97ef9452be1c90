"""The Agent Skills standard: held against its reference validator, which refuses nothing that we let pass."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from skills_ref import validate as validate_by_reference

from agentic_os.hydration import DefinitionError, packaged_skills, validate_skill

SKILLS = sorted(path.parent for path in packaged_skills().glob("*/SKILL.md"))
REFUSED_BY_THE_REFERENCE = {
    "no front matter": ("Do it.\n", "SKILL.md:1: starts with no front matter"),
    "front matter that does not end": (
        "---\nname: a\ndescription: d\n",
        "SKILL.md:1: starts with no front matter",
    ),
    "an empty front matter": ("---\n\n---\n", "SKILL.md:2: the front matter must have"),
    "a document that ends twice": (
        "---\nname: a\ndescription: d\n...\n...\n---\n",
        "SKILL.md:4: the front matter ends with '---'",
    ),
    "a list": ("---\n- a\n---\n", "SKILL.md:2: the front matter must have"),
    "no name": ("---\ndescription: d\n---\n", "SKILL.md:2: the field name is missing"),
    "an empty name": ("---\nname:\ndescription: d\n---\n", "SKILL.md:2: the name must be that of its folder"),
    "another name": (
        "---\ndescription: d\nname: b\n---\n",
        "SKILL.md:3: the name must be that of its folder, 'a'",
    ),
    "upper case": ("---\nname: A\ndescription: d\n---\n", "SKILL.md:2: the name must be"),
    "no description": ("---\nname: a\n---\n", "SKILL.md:2: description must be a text"),
    "an empty description": (
        "---\nname: a\ndescription: ' '\n---\n",
        "SKILL.md:3: description must be a text",
    ),
    "a long description": (
        f"---\nname: a\ndescription: {'d' * 1025}\n---\n",
        "SKILL.md:3: description must be a text of 1 to 1024 characters, has 1025",
    ),
    "a long compatibility": (
        f"---\nname: a\ndescription: d\ncompatibility: {'c' * 501}\n---\n",
        "SKILL.md:4: compatibility must be a text of 1 to 500 characters, has 501",
    ),
    "a compatibility of two": (
        "---\nname: a\ndescription: d\ncompatibility:\n- c\n---\n",
        "SKILL.md:4: compatib",
    ),
    "another field": (
        "---\nname: a\ndescription: d\nmodel: m\n---\n",
        "SKILL.md:4: unknown field model (known:",
    ),
    "an unquoted colon": (
        "---\nname: a\ndescription: d: e\n---\n",
        "SKILL.md:3: mapping values are not allowed",
    ),
    "a field twice": (
        "---\nname: a\nname: a\ndescription: d\n---\n",
        "SKILL.md:3: the field 'name' comes twice",
    ),
    "an anchor": ("---\nname: a\ndescription: &x d\n---\n", "SKILL.md:3: anchors, aliases and tags"),
    "a tag": ("---\nname: a\ndescription: !!str d\n---\n", "SKILL.md:3: anchors, aliases and tags"),
    "brackets": (
        "---\nname: a\ndescription: d\nmetadata: {x: y}\n---\n",
        "SKILL.md:4: write a list or a mapping",
    ),
}


def write(folder: Path, text: str) -> Path:
    """Write a skill `a`."""
    skill = folder / "a"
    skill.mkdir(exist_ok=True)
    (skill / "SKILL.md").write_text(text)
    return skill


@pytest.mark.parametrize("case", REFUSED_BY_THE_REFERENCE)
def test_what_the_reference_refuses_we_refuse_with_file_and_line(tmp_path: Path, case: str):
    """Each refusal of the reference is one of ours, which says where, and what should be there."""
    text, words = REFUSED_BY_THE_REFERENCE[case]
    skill = write(tmp_path, text)
    assert validate_by_reference(skill)
    with pytest.raises(DefinitionError) as caught:
        validate_skill(skill)
    assert str(caught.value).startswith(f"{skill}/")
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["-a", "a-", "a--b", "a_b", "a b", "A", "a" * 65, "a.b", "\u00c9"])
def test_a_folder_that_the_reference_refuses_we_refuse(tmp_path: Path, name: str):
    """A folder whose name is none of the standard's is refused, though the front matter has the same."""
    skill = tmp_path / name
    skill.mkdir()
    (skill / "SKILL.md").write_text(f"---\nname: {name}\ndescription: d\n---\n")
    assert validate_by_reference(skill)
    with pytest.raises(DefinitionError):
        validate_skill(skill)


def test_a_missing_description_and_one_in_lower_case_are_refused(tmp_path: Path):
    """Clients do not see `skill.md`, so we are stricter here than the reference; a missing file is refused by both."""
    skill = tmp_path / "a"
    skill.mkdir()
    assert validate_by_reference(skill)
    with pytest.raises(DefinitionError, match=r"SKILL\.md: is missing"):
        validate_skill(skill)
    (skill / "skill.md").write_text("---\nname: a\ndescription: d\n---\n")
    assert validate_by_reference(skill) == []
    with pytest.raises(DefinitionError, match=r"exactly this name"):
        validate_skill(skill)


@pytest.mark.parametrize("skill", SKILLS, ids=lambda path: path.name)
def test_our_own_skills_pass_the_reference(skill: Path):
    """Each skill that we ship is one of the standard."""
    assert validate_by_reference(skill) == []
    assert validate_skill(skill)


def test_all_that_the_standard_allows_passes_both(tmp_path: Path, make_skill: Callable[..., Path]):
    """Each field of the standard, and texts over several lines or in quotes, are accepted."""
    text = (
        "---\nname: a\ndescription: >\n  Does it:\n  twice.\nlicense: 'MIT'\ncompatibility: Python 3\n"
        "metadata:\n  version: 1.0\n  owner: us\nallowed-tools: Bash(git:*) Read\n---\nText --- of it.\n"
    )
    skill = write(tmp_path, text)
    assert validate_by_reference(skill) == []
    assert validate_skill(skill)


LINES = st.sampled_from(
    [
        "name: a", "name: b", "name: 'a'", 'name: "a"', "name:", "name: ", "Name: a", "name: a # c", "name : a",
        "description: d", "description: d: e", "description: 'd: e'", "description:", "description: |",
        "description: >-", "description: [d]", "description: 1", "description: true", "description: null",
        "description: ~", "description: *x", "description: &x d", "description: !!str d", "description: d---e",
        "  more", "  x: y", "- x", "  - x", "license: MIT", "compatibility: c", "compatibility:", "compatibility: ''",
        "metadata:", "metadata: {}", "metadata: text", "allowed-tools: Read", "allowed-tools:", "model: m", "? a",
        ": b", "{}", "# c", "", "\t", "%x", "---", "--- ", "...", "<<: x", "@x", "`x", "\u00e9: \u00e9",
        "description: \u00a0", "description: '\\'", 'description: "\\x"', "1: 2", "name: a\r",
    ]
)  # fmt: skip


@settings(max_examples=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(LINES, max_size=3),
    st.sampled_from([[], ["name: a"], ["description: d"], ["name: a", "description: d"]]),
    st.lists(LINES, max_size=3),
    st.sampled_from(["---", "---\r", "--- ", ""]),
)
def test_whatever_the_reference_refuses_we_refuse(
    tmp_path: Path, before: list[str], fields: list[str], after: list[str], end: str
):
    """Of front matters put together at random, none that the reference refuses, or fails over, passes here."""
    text = "\n".join(["---", *before, *fields, *after, end, "Text.", ""])
    skill = write(tmp_path, text)
    try:
        refused = bool(validate_by_reference(skill))
    except Exception:  # noqa: BLE001 - the reference fails over some of what it should refuse
        refused = True
    try:
        validate_skill(skill)
    except DefinitionError:
        return
    assert not refused, repr(text)


@pytest.mark.parametrize("nested", ["- " * 100_000 + "x", "\n".join("  " * n + "a:" for n in range(50))])
def test_what_nests_without_end_is_refused(tmp_path: Path, nested: str):
    """A front matter that no parser should follow is a fault with its line, and nothing worse."""
    skill = write(tmp_path, f"---\nname: a\ndescription: d\nmetadata:\n  {nested}\n---\n")
    with pytest.raises(DefinitionError, match=r"SKILL\.md:\d+: "):
        validate_skill(skill)


@pytest.mark.parametrize("skill", SKILLS, ids=lambda folder: folder.name)
def test_the_reference_has_each_skill_with_the_exit_codes_of_its_table(skill: Path):
    """What docs/reference/skills.md lists is what the SKILL.md itself says."""
    text = (skill / "SKILL.md").read_text(encoding="utf-8")
    codes = sorted(
        int(code) for cell in re.findall(r"(?m)^\| ([\d, ]+) \|", text) for code in cell.split(",")
    )
    reference = (Path(__file__).parents[2] / "docs/reference/skills.md").read_text(encoding="utf-8")
    (row,) = [line for line in reference.splitlines() if line.startswith(f"| `{skill.name}` |")]
    assert row.endswith(f"| {', '.join(map(str, codes))} |")
