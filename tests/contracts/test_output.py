"""Declared outputs: no usable schema is refused when it is declared, and what does not fit one, when it comes."""

from typing import Any

import pytest

from agentic_os.contracts.output import MAX_SCHEMA_BYTES, output_faults, schema_fault

COUNT = {"type": "object", "required": ["count"], "properties": {"count": {"type": "integer"}}}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "objekt"},
        {"$ref": "http://127.0.0.1:1/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"type": "string", "pattern": "("},
        {"description": "x" * MAX_SCHEMA_BYTES},
    ],
)
def test_what_cannot_be_held_to_is_refused_when_it_is_declared(schema: dict[str, Any]):
    """No unknown type, no reference to elsewhere, no broken pattern, no book: each is a fault in words."""
    assert schema_fault(schema)


def test_a_schema_may_refer_to_itself():
    """Definitions of its own are part of a schema."""
    recursive = {"$ref": "#/$defs/n", "$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}}}}
    assert "" == schema_fault(recursive)
    assert () == output_faults(recursive, [[], [[]]])


def test_each_fault_of_an_output_has_its_pointer():
    """What does not fit is named with where it stands; a missing output is a fault, and without a schema none is."""
    assert ["/body/output/count"] == [p for p, _ in output_faults(COUNT, {"count": "many"})]
    assert ["/body/output"] == [p for p, _ in output_faults(COUNT, None)]
    assert () == output_faults(COUNT, {"count": 3})
    assert () == output_faults(None, None)
