"""How a document breaks the contract: the codes and words that its sender gets back."""


class ContractViolation(Exception):
    """A document was refused: `code` for programs, `message` for people, `pointers` to the places."""

    def __init__(self, code: str, message: str, pointers: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.pointers = pointers


class Malformed(ContractViolation):
    """The bytes are no JSON; `offset` counts the characters (or bytes, if undecodable) before the fault."""

    def __init__(self, message: str, *, offset: int) -> None:
        super().__init__("malformed", message)
        self.offset = offset


class SchemaInvalid(ContractViolation):
    """The bytes are JSON, but not what the contract allows."""

    def __init__(self, message: str, *pointers: str) -> None:
        super().__init__("schema_invalid", message, pointers)
