"""The shape of the repository: what the tools cannot check and a reviewer should not have to."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentic_os.postgres.codec import EVENT_TYPES

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ADAPTERS = sorted(path.name for path in (ROOT / "adapters").iterdir() if (path / "__init__.py").exists())
SOURCES = [
    path for folder in ("src", "adapters", "skills", "benchmarks") for path in (ROOT / folder).rglob("*.py")
]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
BANNED = {
    "util",
    "utils",
    "helper",
    "helpers",
    "common",
    "manager",
    "service",
    "base",
    "misc",
    "core",
    "processor",
}
_MORE_SENTENCES = re.compile(r"[.!?]\s+[A-Z]")


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """List the test functions of a file, those of classes too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node


def test_every_adapter_is_an_entry_point_and_under_the_import_contracts():
    """The adapters' folders, the entry points and the packages that the import linter watches are the same."""
    entry_points = PROJECT["project"]["entry-points"]["agentic_os.control_planes"].values()
    assert ADAPTERS == sorted(point.partition(":")[0] for point in entry_points)
    assert sorted(["agentic_os", *ADAPTERS]) == sorted(PROJECT["tool"]["importlinter"]["root_packages"])


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_adapter_is_held_to_the_port(adapter: str):
    """Each adapter has a contract of its own that lets it import the port and nothing else of ours."""
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    own = [c for c in contracts if c["type"] == "forbidden" and adapter in c["source_modules"]]
    assert any("agentic_os.*" in contract["forbidden_modules"] for contract in own)
    kernel = [c for c in contracts if c["type"] == "forbidden" and c["source_modules"] == ["agentic_os"]]
    assert any(adapter in contract["forbidden_modules"] for contract in kernel)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_test_says_in_one_sentence_what_must_hold(path: Path):
    """Each test has a docstring of exactly one sentence, on its first line."""
    wrong = []
    for function in functions(path):
        sentence = ast.get_docstring(function) or ""
        if not sentence.endswith(".") or "\n\n" in sentence or _MORE_SENTENCES.search(sentence):
            wrong.append(f"{function.name}: {sentence!r}")
    assert [] == wrong


def test_no_module_has_a_name_that_says_nothing():
    """Modules are named for their subject, and never for being useful."""
    named = {
        path for path in (*SOURCES, *TESTS) for part in path.relative_to(ROOT).parts if _words(part) & BANNED
    }
    assert [] == sorted(str(path.relative_to(ROOT)) for path in named)


def _words(part: str) -> set[str]:
    return set(part.removesuffix(".py").split("_"))


def test_every_event_type_has_a_stored_example():
    """The examples of the stored form are those of the types that exist, one each, and of no other."""
    examples = {path.name for path in (ROOT / "tests" / "golden" / "events").iterdir()}
    assert {f"{name}.v1.json" for name in EVENT_TYPES} == examples


def test_event_types_are_told_apart_by_subject_and_past_tense():
    """Each type is named like `plan.approved`: its subject, a dot, and what happened."""
    assert [] == [name for name in EVENT_TYPES if not re.fullmatch(r"[a-z]+\.[a-z]+(_[a-z]+)*", name)]
