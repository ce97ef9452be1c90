"""What storage cannot do, by name."""


class StoreUnavailable(Exception):
    """The database does not answer."""


class VersionConflict(Exception):
    """Somebody else appended to the stream first: load it again."""


class DigestMismatch(Exception):
    """The bytes are not the ones that the digest names."""


class TooLarge(Exception):
    """More bytes came than an artifact may have."""


class StorageFull(Exception):
    """There is no room for the bytes; nothing of them is kept."""


class ReceiptMismatch(Exception):
    """The key was used before, with other content."""


class CredentialRevoked(Exception):
    """The credential was revoked between the check and the append."""


class AccountExhausted(Exception):
    """A movement would put an account over its limit; nothing was written."""

    def __init__(self, account: str) -> None:
        super().__init__(account)
        self.account = account


class NameTaken(Exception):
    """There is a principal of that name already."""
