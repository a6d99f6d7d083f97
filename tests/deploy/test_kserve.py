"""KServe's resources, as kustomize puts them together, against its schema and what the service needs."""

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from posewire.config import load_settings
from tests.deploy.test_kustomize import build, one, operators_of, strict, validate
from tests.deploy.tools import ROOT, needs

FOLDER = ROOT / "k8s/kserve"

pytestmark = needs("kubectl")


@pytest.fixture(scope="module", params=["custom", "custom with grpc", "runtime"])
def resources(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Everything that `kubectl apply -k` would make."""
    name, _, component = request.param.partition(" with ")
    if not component:
        return build(FOLDER / name)
    folder = tmp_path_factory.mktemp(component)
    path = os.path.relpath(FOLDER, folder)
    (folder / "kustomization.yaml").write_text(
        yaml.safe_dump({"resources": [f"{path}/{name}"], "components": [f"{path}/{component}"], "namespace": "posewire"})
    )
    return build(folder)


def predictor(resources: list[dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = one(resources, "InferenceService")["spec"]["predictor"]
    return spec


def server(resources: list[dict[str, Any]]) -> dict[str, Any]:
    """The pod that KServe makes, as far as these files say it: the predictor's fields, and the runtime's if there is one."""
    runtimes = [resource["spec"] for resource in resources if resource["kind"] == "ServingRuntime"]
    own = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "deploymentStrategy", "annotations", "model"}
    pod = {key: value for key, value in predictor(resources).items() if key not in own}
    for runtime in runtimes:
        assert predictor(resources)["model"]["runtime"] == one(resources, "ServingRuntime")["metadata"]["name"]
        pod |= {key: runtime[key] for key in ("containers", "volumes")}
    return pod


def container(resources: list[dict[str, Any]]) -> dict[str, Any]:
    [found] = server(resources)["containers"]
    assert found["name"] == "kserve-container"  # KServe looks for this name
    return dict(found)


def settings_of(resources: list[dict[str, Any]]) -> Any:
    return load_settings({variable["name"]: variable["value"] for variable in container(resources)["env"]})


def test_kserve_would_take_it(resources: list[dict[str, Any]]) -> None:
    """By the CRDs of KServe, config/crd/full in its repository: CRDS names a folder that has them."""
    jsonschema = pytest.importorskip("jsonschema")
    if "CRDS" not in os.environ:
        pytest.skip("CRDS names no folder of CRDs (docs/deploy.md)")
    schemas = operators_of(Path(os.environ["CRDS"]))
    for resource in resources:
        if resource["apiVersion"].startswith("serving.kserve.io/"):
            schema = strict(schemas[resource["apiVersion"], resource["kind"]])
            schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {}}
            jsonschema.Draft202012Validator(schema).validate(resource)  # the schema itself is KServe's: to check it takes a minute


def test_kubernetes_would_take_the_pod_and_all_else(resources: list[dict[str, Any]]) -> None:
    pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed (extra deploy)")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "posewire"}, "spec": server(resources)}
    plain = [resource for resource in resources if not resource["apiVersion"].startswith("serving.kserve.io/")]
    assert sorted(resource["kind"] for resource in plain) == ["Namespace", "NetworkPolicy", "ServiceAccount"]
    for resource in (pod, *plain):
        validate(json.dumps(resource))


def test_the_ports_are_the_settings_and_the_first_is_http(resources: list[dict[str, Any]]) -> None:
    settings = settings_of(resources)
    ports = [(port["name"], port["containerPort"]) for port in container(resources)["ports"]]
    # By the name h2c KServe tells that a port speaks HTTP/2. The port of operators is not in its Service.
    assert ports == [("http1", settings.port)] + ([("h2c", settings.grpc_port)] if settings.grpc_port else [])
    annotations = next(
        spec["annotations"]
        for spec in (predictor(resources), *(resource["spec"] for resource in resources if resource["kind"] == "ServingRuntime"))
        if "annotations" in spec
    )
    assert annotations["prometheus.io/port"] == str(settings.ops_port)
    ingress = one(resources, "NetworkPolicy")["spec"]["ingress"]
    assert {rule["port"] for part in ingress for rule in part["ports"]} == {settings.port, settings.ops_port, 9000}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container(resources)[probe]["httpGet"]["port"] == settings.ops_port


def test_a_rollout_loses_no_request(resources: list[dict[str, Any]]) -> None:
    settings, pod = settings_of(resources), server(resources)
    stop = container(resources)["lifecycle"]["preStop"]["sleep"]["seconds"] + settings.drain_s + settings.request_timeout_ms / 1000
    assert pod["terminationGracePeriodSeconds"] >= stop + 5
    assert pod["enableServiceLinks"] is False  # or POSEWIRE_PORT=tcp://… comes from the Service of that name
    assert predictor(resources)["deploymentStrategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_the_pod_is_restricted_and_the_image_is_this_version(resources: list[dict[str, Any]]) -> None:
    pod, found = server(resources), container(resources)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert found["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert found["resources"]["limits"]["cpu"] == found["resources"]["requests"]["cpu"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert found["image"].split(":")[1] == f"{version}-cpu"


def test_the_policy_selects_kserve_s_pods(resources: list[dict[str, Any]]) -> None:
    name = one(resources, "InferenceService")["metadata"]["name"]
    selector = one(resources, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]
    assert selector == {"serving.kserve.io/inferenceservice": name}
    assert {r["metadata"].get("namespace") for r in resources if r["kind"] != "Namespace"} == {"posewire"}


def test_a_store_from_storage_is_the_one_that_is_served() -> None:
    resources = build(FOLDER / "runtime")
    assert str(settings_of(resources).model_store) == "/mnt/models"  # where KServe puts it
    asked = predictor(resources)["model"]
    [offered] = one(resources, "ServingRuntime")["spec"]["supportedModelFormats"]
    assert asked["modelFormat"] == {key: offered[key] for key in ("name", "version")}
    assert asked["protocolVersion"] in one(resources, "ServingRuntime")["spec"]["protocolVersions"]
    assert one(resources, "NetworkPolicy")["spec"]["egress"]  # for the init container that fetches it
