"""`python -m posewire`."""

from posewire.cli import main

main()
