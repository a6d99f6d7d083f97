"""The manifests, as kustomize puts them together, against Kubernetes' own schemas and what the service needs."""

import json
import os
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from posewire.config import load_settings
from tests.deploy.tools import ROOT, needs, run

OVERLAYS = sorted(path.name for path in (ROOT / "k8s/overlays").iterdir())
COMPONENTS = sorted(path.name for path in (ROOT / "k8s/components").iterdir())
VERSIONS = ("1.35", "1.36", "1.37")  # the last three minors that kubernetes-validate knows

pytestmark = needs("kubectl")


@cache
def build(folder: Path) -> list[dict[str, Any]]:
    return [resource for resource in yaml.safe_load_all(run("kubectl", "kustomize", folder)) if resource]


@pytest.fixture(scope="module", params=[f"overlays/{name}" for name in OVERLAYS] + [f"components/{name}" for name in COMPONENTS])
def resources(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """An overlay, or the base with one component, so that also those are checked that no overlay takes."""
    kind, name = request.param.split("/")
    if kind == "overlays":
        return build(ROOT / "k8s/overlays" / name)
    folder = tmp_path_factory.mktemp(name)
    path = os.path.relpath(ROOT / "k8s", folder)
    overlay = {"resources": [f"{path}/base"], "components": [f"{path}/components/{name}"]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    return build(folder)


def one(resources: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    [found] = [resource for resource in resources if resource["kind"] == kind]
    return found


@cache
def validate(resource: str) -> None:
    """As JSON: most are the same in many overlays, and one takes a while."""
    import kubernetes_validate  # noqa: PLC0415 - an extra

    for version in VERSIONS:
        kubernetes_validate.validate(json.loads(resource), version, strict=True)


def test_kubernetes_would_take_it(resources: list[dict[str, Any]]) -> None:
    pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed (extra deploy)")
    core = [r for r in resources if not r["apiVersion"].split("/")[0].endswith((".sh", ".coreos.com", "gateway.networking.k8s.io"))]
    assert len(core) >= 7
    for resource in core:
        validate(json.dumps(resource))


def strict(schema: Any) -> Any:
    """A CRD's schema in which an unknown field is an error, as `kubectl --validate=strict` has it."""
    if isinstance(schema, dict):
        closed = {key: strict(value) for key, value in schema.items()}
        if "properties" in schema and "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed["additionalProperties"] = False
        if schema.get("x-kubernetes-int-or-string"):
            closed.pop("type", None)
        if isinstance(closed.get("pattern"), str):  # Go's; Python has flags in front
            closed["pattern"] = closed["pattern"].replace("^(?i)", "(?i)^")
        return closed
    return [strict(item) for item in schema] if isinstance(schema, list) else schema


class _Loader(yaml.CSafeLoader):
    """A plain `=` is text, as in YAML 1.2: the Prometheus operator's schemas list it as a value."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: node.value)


@cache
def operators_of(folder: Path) -> dict[tuple[str, str], Any]:
    """The schemas of a folder of CRDs, by API version and kind."""
    documents = (document for path in folder.glob("*.yaml") for document in yaml.load_all(path.read_bytes(), _Loader))
    return {
        (f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"]): version["schema"]["openAPIV3Schema"]
        for crd in documents
        if crd["kind"] == "CustomResourceDefinition"  # a project's folder may hold policies too
        for version in crd["spec"]["versions"]
    }


@pytest.fixture(scope="module")
def operators() -> dict[tuple[str, str], Any]:
    """The schemas of resources that operators know, by API version and kind."""
    if "CRDS" not in os.environ:
        pytest.skip("CRDS names no folder of CRDs (docs/deploy.md)")
    return operators_of(Path(os.environ["CRDS"]))


def test_the_operators_would_take_it(resources: list[dict[str, Any]], operators: dict[tuple[str, str], Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    for resource in resources:
        if resource["apiVersion"].split("/")[0].endswith((".sh", ".coreos.com", "gateway.networking.k8s.io")):
            schema = strict(operators[resource["apiVersion"], resource["kind"]])
            schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {}}
            jsonschema.validate(resource, schema)


def test_the_settings_are_settings_and_the_grace_period_covers_the_drain(resources: list[dict[str, Any]]) -> None:
    environment = next(r["data"] for r in resources if r["kind"] == "ConfigMap" and r["metadata"]["name"].startswith("posewire-settings"))
    settings = load_settings(environment)
    pod = one(resources, "Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": settings.port, "ops": settings.ops_port}
    stop = container["lifecycle"]["preStop"]["sleep"]["seconds"] + settings.drain_s + settings.request_timeout_ms / 1000
    assert pod["terminationGracePeriodSeconds"] >= stop + 5
    assert pod["enableServiceLinks"] is False  # or POSEWIRE_PORT=tcp://… comes from the Service of that name


def test_pods_are_restricted(resources: list[dict[str, Any]]) -> None:
    pod = one(resources, "Deployment")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"] + pod.get("initContainers", []):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys() & container["resources"]["requests"].keys()


def test_selectors_select_the_pods_and_the_image_is_this_version(resources: list[dict[str, Any]]) -> None:
    template = one(resources, "Deployment")["spec"]["template"]
    labels = template["metadata"]["labels"].items()
    for resource in resources:
        spec = resource.get("spec", {})
        selector = {"Service": spec.get("selector"), "NetworkPolicy": spec.get("podSelector"), "PodDisruptionBudget": spec.get("selector")}
        if chosen := selector.get(resource["kind"]):
            assert chosen.get("matchLabels", chosen).items() <= labels, resource["kind"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for container in template["spec"]["containers"] + template["spec"].get("initContainers", []):
        assert container["image"].split(":")[1] in (f"{version}-cpu", f"{version}-gpu")


def test_everything_is_in_the_same_namespace(resources: list[dict[str, Any]]) -> None:
    assert {r["metadata"].get("namespace") for r in resources if r["kind"] != "Namespace"} == {"posewire"}


def test_an_autoscaler_has_the_replicas_to_itself() -> None:
    for overlay in ("autoscale-keda", "autoscale-hpa", "production"):
        assert "replicas" not in one(build(ROOT / "k8s/overlays" / overlay), "Deployment")["spec"]
