"""`python -m monitoring`: write what is made from code; `--check`: fail where what lies there is not that."""

import sys
from pathlib import Path

import yaml

from monitoring import catalogue, dashboards

ROOT = Path(__file__).resolve().parents[1]
RULES = ROOT / "monitoring/rules/posewire.yml"


def prometheus_rule() -> str:
    """The rules as the Prometheus operator takes them."""
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "posewire"},
        "spec": yaml.safe_load(RULES.read_text()),
    }
    return "# Made from monitoring/rules/posewire.yml by `make monitoring`.\n" + yaml.safe_dump(resource, sort_keys=False, width=10_000)


def made() -> dict[Path, str]:
    """Every file that is made, with its content."""
    files = {ROOT / f"monitoring/dashboards/{name}.json": dashboards.render(name) for name in dashboards.DASHBOARDS}
    return files | {
        ROOT / "docs/metrics.md": catalogue.render(),
        ROOT / "k8s/components/monitoring/prometheusrule.yaml": prometheus_rule(),
    }


def main() -> int:
    """The exit code."""
    stale = {path: text for path, text in made().items() if not path.exists() or path.read_text() != text}
    for path, text in stale.items():
        print(path.relative_to(ROOT))
        if "--check" not in sys.argv:
            path.write_text(text)
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
