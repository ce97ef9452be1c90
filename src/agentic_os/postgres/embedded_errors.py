"""What the caller hears when there is no database to work with."""


class DatabaseUnavailable(Exception):
    """No database can be used; the message says why and what to do next, and holds no secret."""
