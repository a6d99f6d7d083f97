"""`python -m monitoring`: write the files that are made from code. `--check` writes nothing and fails if a file is not up to date.

`--runbook-url URL` first sets the address of the runbook in the rules, from which the other files are made.
"""

import argparse
import re
import sys
from pathlib import Path

import yaml

from monitoring import catalogue, dashboards

ROOT = Path(__file__).resolve().parents[1]
RULES = ROOT / "monitoring/rules/posewire.yml"


def prometheus_rule() -> str:
    """Return the rules as a resource of the Prometheus operator."""
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "posewire"},
        "spec": yaml.safe_load(RULES.read_text()),
    }
    return "# Made from monitoring/rules/posewire.yml by `make monitoring`.\n" + yaml.safe_dump(resource, sort_keys=False, width=10_000)


def made() -> dict[Path, str]:
    """Return the content of every file that is made, by its path."""
    files = {ROOT / f"monitoring/dashboards/{name}.json": dashboards.render(name) for name in dashboards.DASHBOARDS}
    return files | {
        ROOT / "docs/metrics.md": catalogue.render(),
        ROOT / "k8s/components/monitoring/prometheusrule.yaml": prometheus_rule(),
    }


def point_to_runbook(url: str) -> None:
    """Write the runbook's address into the rules; the section of each alert stays."""
    RULES.write_text(re.sub(r"(?<= runbook_url: )[^#\n]*(?=#)", lambda _: url, RULES.read_text()))


def _page(text: str) -> str:
    if not re.fullmatch(r"[^\s#]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a page's address, such as https://your.wiki/posewire/runbook.md, without #")
    return text


def main() -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m monitoring", description=__doc__)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a file is not up to date")
    choice.add_argument("--runbook-url", type=_page, metavar="URL", help="address of docs/runbook.md for the readers of the alerts")
    arguments = parser.parse_args()
    if arguments.runbook_url:
        point_to_runbook(arguments.runbook_url)
    stale = {path: text for path, text in made().items() if not path.exists() or path.read_text() != text}
    for path, text in stale.items():
        print(path.relative_to(ROOT))
        if not arguments.check:
            path.write_text(text)
    return int(bool(stale) and arguments.check)


if __name__ == "__main__":
    sys.exit(main())
