"""What tests ask of an answer's JSON."""


def numbers(found: object) -> list[float]:
    """All numbers of an answer, in order."""
    if isinstance(found, dict):
        return [n for value in found.values() for n in numbers(value)]
    if isinstance(found, list):
        return [n for value in found for n in numbers(value)]
    return [float(found)] if isinstance(found, int | float) else []
