"""The reference of the command line, by Typer from the commands themselves."""

import re
import subprocess
import sys


def command_line_page() -> str:
    """Return Markdown: a section for each command, with its arguments and options. Its headings begin at the second level."""
    command = [sys.executable, "-m", "typer", "posewire.cli.main", "utils", "docs", "--name", "posewire"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    sections = text.split("\n## ", 1)[1]  # before it: the list of commands, which the page's contents show
    sections = re.sub(r"^### ", "## ", "## " + sections, flags=re.MULTILINE)
    return sections.replace("* `--help`: Show this message and exit.\n", "")
