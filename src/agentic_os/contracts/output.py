"""Outputs of results and payloads of hand-offs, held to the JSON Schema that is declared for them."""

from collections.abc import Mapping
from typing import Any, Final

import jsonschema_rs

from agentic_os.contracts.canonical import canonical_json
from agentic_os.contracts.strict_json import pointer_to

MAX_SCHEMA_BYTES: Final = 32 * 1024
_SHOWN: Final = 10


def schema_fault(schema: Mapping[str, Any]) -> str:
    """Say what is wrong with a declared schema, "" for nothing: it must be small, and refer to no other."""
    try:
        if len(canonical_json(dict(schema))) > MAX_SCHEMA_BYTES:
            return f"it is longer than {MAX_SCHEMA_BYTES} bytes"
        _validator(schema)
    except (ValueError, jsonschema_rs.ValidationError) as problem:
        return str(problem).splitlines()[0]
    return ""


def output_faults(schema: Mapping[str, Any] | None, output: Any) -> tuple[tuple[str, str], ...]:
    """List (pointer, what is wrong) of an output; nothing where no schema is declared."""
    if schema is None:
        return ()
    if output is None:
        return (("/body/output", "/body/output is missing"),)
    return _faults(schema, output, "output")


def payload_faults(schema: Mapping[str, Any] | None, payload: Any) -> tuple[tuple[str, str], ...]:
    """List (pointer, what is wrong) of a hand-off's payload; nothing where its role declares no schema."""
    return () if schema is None else _faults(schema, payload, "payload")


def _faults(schema: Mapping[str, Any], value: Any, member: str) -> tuple[tuple[str, str], ...]:
    errors = list(_validator(schema).iter_errors(value))
    places = [(pointer_to("body", member, *error.instance_path), error.message) for error in errors]
    return tuple((place, f"{place}: {message[:200]}") for place, message in places[:_SHOWN])


def _validator(schema: Mapping[str, Any]) -> jsonschema_rs.Validator:
    # A reference to elsewhere is never fetched, and no pattern can take longer than its text is long.
    return jsonschema_rs.validator_for(
        dict(schema), validate_formats=True, offline=True, pattern_options=jsonschema_rs.RegexOptions()
    )
