import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from posewire.telemetry.metrics import Metrics
from tests.deploy.tools import ROOT, RULES, needs, rules, run

TESTS = ROOT / "monitoring/rules/tests/posewire.yml"


@needs("promtool")
def test_prometheus_takes_the_rules() -> None:
    assert "SUCCESS" in run("promtool", "check", "rules", RULES)


@needs("promtool")
def test_every_alert_fires_and_resolves_on_made_up_series() -> None:
    assert "SUCCESS" in run("promtool", "test", "rules", TESTS)


def test_every_alert_is_among_those_and_in_the_runbook() -> None:
    expected: dict[str, set[float]] = {}
    for case in yaml.safe_load(TESTS.read_text())["tests"]:
        for check in case["promql_expr_test"]:
            [name] = re.findall(r'alertname="(\w+)"', check["expr"])
            expected.setdefault(name, set()).add(check["exp_samples"][0]["value"])
    alerts = {rule["alert"]: rule for rule in rules() if "alert" in rule}
    assert expected == {name: {0, 1} for name in alerts}
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    assert headings == list(alerts)
    for name, rule in alerts.items():
        assert rule["annotations"]["runbook_url"].endswith(f"#{name.lower()}")
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_rules_and_dashboards_ask_for_metrics_that_exist() -> None:
    ours = {metric.name for metric in Metrics().catalogue()}
    texts = [rule["expr"] for rule in rules()] + [path.read_text() for path in (ROOT / "monitoring/dashboards").glob("*.json")]
    texts += [path.read_text() for path in (ROOT / "k8s/components").rglob("*.yaml") if path.parent.name in ("keda", "hpa")]
    asked = {re.sub(r"_(bucket|sum|count)$", "", name) for text in texts for name in re.findall(r"\bposewire_[a-z_]+", text)}
    assert len(asked) > 15
    assert asked - ours - {"posewire_busy_workers"} == set()  # that one is the HPA's own, by the adapter's rule


def test_what_is_made_from_code_is_up_to_date() -> None:
    pytest.importorskip("grafana_foundation_sdk", reason="grafana-foundation-sdk is not installed (extra deploy)")
    from monitoring.__main__ import made  # noqa: PLC0415

    assert [path.name for path, text in made().items() if path.read_text() != text] == [], "run `make monitoring`"


def test_an_operator_says_once_where_the_runbook_is(tmp_path: Path) -> None:
    pytest.importorskip("grafana_foundation_sdk", reason="grafana-foundation-sdk is not installed (extra deploy)")
    for folder in ("monitoring", "docs", "k8s/components/monitoring"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    made = [tmp_path / RULES.relative_to(ROOT), tmp_path / "k8s/components/monitoring/prometheusrule.yaml"]
    before = [path.read_text() for path in made]

    def point(url: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "monitoring", "--runbook-url", url]
        return subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)

    wrong = point("https://your.wiki/runbook#top")
    assert (wrong.returncode, "without #" in wrong.stderr) == (2, True)
    assert [path.read_text() for path in made] == before
    done = point("https://your.wiki/runbook")
    assert done.returncode == 0, done.stderr
    for path, text in zip(made, before, strict=True):
        assert path.read_text() == text.replace("docs/runbook.md#", "https://your.wiki/runbook#") != text
