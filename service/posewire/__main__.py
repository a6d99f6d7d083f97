"""`python -m posewire`."""

from posewire.cli.main import main

main()
