"""Words of messages."""


def counted(count: int, one: str, many: str) -> str:
    """Return a number and its noun: "1 person", "2 people", "0 people"."""
    return f"{count} {one if count == 1 else many}"
