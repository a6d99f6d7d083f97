"""How a command of the offline side ends."""

import sys

import typer

from posewire.errors import PosewireError


def run(app: typer.Typer) -> None:
    """Run a command line; an error that its user can mend is told in its own words, without a traceback."""
    try:
        app()
    except PosewireError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
