"""Who asks."""

from starlette.requests import HTTPConnection

# Where `Access` leaves the name in a request's scope.
HOLDER = "posewire.key_holder"


def client_of(connection: HTTPConnection) -> str:
    """Who asks, for limits and the log: the holder of the key, where there are keys, else the address; told apart by their first word."""
    holder: str | None = connection.scope.get(HOLDER)
    address = connection.client.host if connection.client else "unknown"
    return f"key {holder}" if holder else f"address {address}"
