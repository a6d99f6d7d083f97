"""The manifests, as kustomize puts them together, against Kubernetes' own schemas and what the service needs."""

import json
import os
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from posewire.config import Settings, load_settings
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
    return with_components(tmp_path_factory.mktemp(name), name)


def with_components(folder: Path, *names: str) -> list[dict[str, Any]]:
    """The base with components, in this order."""
    path = os.path.relpath(ROOT / "k8s", folder)
    overlay = {"resources": [f"{path}/base"], "components": [f"{path}/components/{name}" for name in names]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    return build(folder)


def workloads(resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [resource for resource in resources if resource["kind"] in ("Deployment", "StatefulSet")]


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
        if crd.get("kind") == "CustomResourceDefinition"  # a project's folder may hold policies, patches and a kustomization too
        for version in crd.get("spec", {}).get("versions", ())
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


def settings_of(resources: list[dict[str, Any]], workload: dict[str, Any]) -> Settings:
    """The settings of a workload's container; of two values of one name the later source's holds."""
    [container] = workload["spec"]["template"]["spec"]["containers"]
    maps = {r["metadata"]["name"]: r["data"] for r in resources if r["kind"] == "ConfigMap"}
    environment = {name: value for source in container["envFrom"] for name, value in maps[source["configMapRef"]["name"]].items()}
    return load_settings(environment)


def test_the_settings_are_settings_and_the_grace_period_covers_the_drain(resources: list[dict[str, Any]]) -> None:
    for workload in workloads(resources):
        settings = settings_of(resources, workload)
        pod = workload["spec"]["template"]["spec"]
        [container] = pod["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports == {"http": settings.port, "ops": settings.ops_port}
        stop = container["lifecycle"]["preStop"]["sleep"]["seconds"] + settings.drain_s + settings.request_timeout_ms / 1000
        assert pod["terminationGracePeriodSeconds"] >= stop + 5
        assert pod["enableServiceLinks"] is False  # or POSEWIRE_PORT=tcp://… comes from the Service of that name


def test_pods_are_restricted(resources: list[dict[str, Any]]) -> None:
    pods = [workload["spec"]["template"]["spec"] for workload in workloads(resources)]
    for pod in pods:
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [container for pod in pods for container in pod["containers"] + pod.get("initContainers", [])]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys() & container["resources"]["requests"].keys()


def test_selectors_select_the_pods_and_the_image_is_this_version(resources: list[dict[str, Any]]) -> None:
    templates = [workload["spec"]["template"] for workload in workloads(resources)]
    for resource in resources:
        spec = resource.get("spec", {})
        selector = {"Service": spec.get("selector"), "NetworkPolicy": spec.get("podSelector"), "PodDisruptionBudget": spec.get("selector")}
        if chosen := selector.get(resource["kind"]):
            selected = [t for t in templates if chosen.get("matchLabels", chosen).items() <= t["metadata"]["labels"].items()]
            assert len(selected) == 1, resource["kind"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for container in [c for t in templates for c in t["spec"]["containers"] + t["spec"].get("initContainers", [])]:
        assert container["image"].split(":")[1] in (f"{version}-cpu", f"{version}-gpu")


def test_everything_is_in_the_same_namespace(resources: list[dict[str, Any]]) -> None:
    assert {r["metadata"].get("namespace") for r in resources if r["kind"] != "Namespace"} == {"posewire"}


def test_an_autoscaler_has_the_replicas_to_itself() -> None:
    for overlay in ("autoscale-keda", "autoscale-hpa", "production"):
        assert "replicas" not in one(build(ROOT / "k8s/overlays" / overlay), "Deployment")["spec"]


def named(resources: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    [found] = [resource for resource in resources if (resource["kind"], resource["metadata"]["name"]) == (kind, name)]
    return found


def test_one_pod_watches_cameras_and_the_others_keep_nothing(tmp_path: Path) -> None:
    resources = with_components(tmp_path, "hpa", "cameras")
    watcher, others = one(resources, "StatefulSet"), one(resources, "Deployment")
    assert watcher["spec"]["replicas"] == 1
    assert settings_of(resources, watcher).max_cameras > 0
    assert settings_of(resources, others).max_cameras == 0
    assert "persistentVolumeClaim" not in json.dumps(others)
    assert one(resources, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == others["metadata"]["name"]
    [claim] = watcher["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    [container] = watcher["spec"]["template"]["spec"]["containers"]
    [mount] = [mount for mount in container["volumeMounts"] if mount["name"] == claim["metadata"]["name"]]
    assert settings_of(resources, watcher).state_dir.is_relative_to(mount["mountPath"])
    assert not mount.get("readOnly")


def test_the_pod_of_the_cameras_is_made_like_the_others(tmp_path: Path) -> None:
    resources = with_components(tmp_path, "cameras")
    watcher, other = (one(resources, kind)["spec"]["template"]["spec"] for kind in ("StatefulSet", "Deployment"))
    [ours], [theirs] = watcher["containers"], other["containers"]
    for key in ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle", "securityContext", "ports"):
        assert ours[key] == theirs[key], key
    for key in ("serviceAccountName", "enableServiceLinks", "terminationGracePeriodSeconds"):
        assert watcher[key] == other[key], key


def test_the_pod_of_the_cameras_may_call_what_its_settings_allow(tmp_path: Path) -> None:
    resources = with_components(tmp_path, "cameras")
    assert named(resources, "NetworkPolicy", "posewire")["spec"]["egress"] == []
    policy = named(resources, "NetworkPolicy", "posewire-cameras")["spec"]
    assert policy["ingress"] == named(resources, "NetworkPolicy", "posewire")["spec"]["ingress"]
    sources = settings_of(resources, one(resources, "StatefulSet")).sources
    networks = [to["ipBlock"]["cidr"] for rule in policy["egress"] for to in rule.get("to", []) if "ipBlock" in to]
    assert [source.removeprefix("rtsp://") for source in sources or ()] == networks


@pytest.mark.parametrize(("component", "kind"), [("ingress", "Ingress"), ("gateway", "HTTPRoute")])
def test_what_is_asked_of_cameras_goes_to_the_pod_that_has_them(tmp_path: Path, component: str, kind: str) -> None:
    resources = with_components(tmp_path, component, "cameras")
    rules = one(resources, kind)["spec"]["rules"]
    routes = json.dumps(rules[0]["http"]["paths"][0] if kind == "Ingress" else rules[0])
    assert "/v1/cameras" in routes
    assert "posewire-cameras" in routes
    assert named(resources, "Service", "posewire-cameras")["spec"]["selector"] == {"app.kubernetes.io/name": "posewire-cameras"}


def test_keys_and_models_hold_for_the_pod_of_the_cameras_too(tmp_path: Path) -> None:
    resources = with_components(tmp_path, "cameras", "keys", "models-volume")
    for workload in workloads(resources):
        [container] = workload["spec"]["template"]["spec"]["containers"]
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        settings = settings_of(resources, workload)
        assert str(settings.model_store) in mounted
        assert str(settings.api_keys_file.parent if settings.api_keys_file else None) in mounted
