"""Who asks."""

from starlette.requests import HTTPConnection

# Where `Access` leaves the name in a request's scope.
HOLDER = "posewire.key_holder"


def holder_of(connection: HTTPConnection) -> str | None:
    """The name under which the key of a request is known; None: no keys are asked for."""
    holder: str | None = connection.scope.get(HOLDER)
    return holder


def client_of(connection: HTTPConnection) -> str:
    """Who asks, for the log: the holder of the key, else the address; told apart by their first word."""
    holder = holder_of(connection)
    address = connection.client.host if connection.client else "unknown"
    return f"key {holder}" if holder else f"address {address}"
