"""Addresses of the server, as seen from its own machine."""


def local_url(host: str, port: int) -> str:
    """Write the address by which this machine reaches a server that listens on host and port."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
