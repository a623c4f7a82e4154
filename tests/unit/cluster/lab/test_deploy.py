"""The manifests of ``deploy/`` against Ray's own schema of cluster files and a strict one of KubeRay's fields."""

from __future__ import annotations

import json
import os
import re
import shlex
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

import raysplit
from raysplit.cli.training.train import train

ROOT = Path(raysplit.__file__).parents[1]
DEPLOY = ROOT / "deploy"
LAUNCHER = ("aws.yaml", "gcp.yaml")


def _only(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """An object with these fields and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


# The fields of KubeRay's v1 resources (https://ray-project.github.io/kuberay/reference/api/) and of Kubernetes' pods
# that the manifests use; any other field is refused, so that a misspelt one cannot pass.
_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_STRINGS: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "string"}}
_QUANTITIES = {"cpu": {"type": "string", "pattern": r"^\d+m?$"}, "memory": {"type": "string", "pattern": r"^\d+[GM]i$"}}
_AMOUNTS = _only({**_QUANTITIES, "nvidia.com/gpu": _COUNT}, "cpu", "memory")
_PORT = _only({"name": _TEXT, "containerPort": {"type": "integer", "minimum": 1, "maximum": 65535}}, "containerPort")
_CONTAINER = _only(
    {
        "name": _TEXT,
        "image": {"type": "string", "pattern": r"^.+:[\w.-]+$"},
        "resources": _only({"requests": _AMOUNTS, "limits": _AMOUNTS}, "requests", "limits"),
        "ports": {"type": "array", "items": _PORT},
        "volumeMounts": {"type": "array", "items": _only({"name": _TEXT, "mountPath": _TEXT}, "name", "mountPath")},
    },
    *("name", "image", "resources"),
)
_VOLUME = _only({"name": _TEXT, "configMap": _only({"name": _TEXT}, "name")}, "name", "configMap")
_POD = _only(
    {
        "containers": {"type": "array", "items": _CONTAINER, "minItems": 1},
        "volumes": {"type": "array", "items": _VOLUME},
    },
    "containers",
)
_TEMPLATE = _only({"spec": _POD}, "spec")
_GROUP = _only(
    {
        "groupName": {"type": "string", "pattern": r"^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63},
        "replicas": _COUNT,
        "minReplicas": _COUNT,
        "maxReplicas": {"type": "integer", "minimum": 1},
        "rayStartParams": _STRINGS,
        "labels": _STRINGS,
        "template": _TEMPLATE,
    },
    *("groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"),
)
_CLUSTER = _only(
    {
        "rayVersion": _TEXT,
        "enableInTreeAutoscaling": {"type": "boolean"},
        "autoscalerOptions": _only(
            {"idleTimeoutSeconds": _COUNT, "upscalingMode": {"enum": ["Default", "Aggressive", "Conservative"]}}
        ),
        "authOptions": _only({"mode": {"enum": ["token", "disabled"]}}, "mode"),
        "headGroupSpec": _only({"rayStartParams": _STRINGS, "template": _TEMPLATE}, "rayStartParams", "template"),
        "workerGroupSpecs": {"type": "array", "items": _GROUP, "minItems": 1},
    },
    *("rayVersion", "headGroupSpec", "workerGroupSpecs"),
)
_JOB = _only(
    {
        "submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        "entrypoint": _TEXT,
        "shutdownAfterJobFinishes": {"type": "boolean"},
        "ttlSecondsAfterFinished": _COUNT,
        "activeDeadlineSeconds": {"type": "integer", "minimum": 1},
        "backoffLimit": _COUNT,
        "rayClusterSpec": _CLUSTER,
    },
    *("entrypoint", "rayClusterSpec"),
)


def _resource(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = _only({"name": _TEXT, "generateName": _TEXT, "namespace": _TEXT})
    fields = {"apiVersion": {"const": "ray.io/v1"}, "kind": {"const": kind}, "metadata": metadata, "spec": spec}
    return _only(fields, *fields)


KUBERAY = {"kuberay.yaml": _resource("RayCluster", _CLUSTER), "kuberay_job.yaml": _resource("RayJob", _JOB)}


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text())
    return content


def ray_version() -> str:
    """The pin ``ray==X.Y.Z`` of the lock."""
    found = re.search(r"^ray==(\S+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("name", LAUNCHER)
def test_launcher_files_follow_rays_schema(name: str) -> None:
    schema = distribution("ray").locate_file("ray/autoscaler/ray-schema.json")
    cluster = read(name)
    jsonschema.validate(cluster, json.loads(Path(str(schema)).read_text()))
    kinds = cluster["available_node_types"]
    assert cluster["head_node_type"] in kinds
    assert sum(kind.get("min_workers", 0) for kind in kinds.values()) <= cluster["max_workers"]


@pytest.mark.parametrize("name", LAUNCHER)
def test_every_kind_of_machine_can_be_asked_for(name: str) -> None:
    for kind, entry in read(name)["available_node_types"].items():
        if kind != "head":
            assert entry["resources"][kind] > 0
            assert entry["labels"] == {"kind": kind}
            assert entry["min_workers"] == 0


@pytest.mark.parametrize("name", LAUNCHER)
def test_the_token_is_on_every_machine(name: str) -> None:
    assert read(name)["file_mounts"] == {"/home/ray/.ray/auth_token": "~/.ray/auth_token"}
    assert "RAY_AUTH_MODE=token" in (DEPLOY / "Dockerfile").read_text()


@pytest.mark.parametrize("name", KUBERAY)
def test_kuberay_manifests_have_known_fields_only(name: str) -> None:
    jsonschema.validate(read(name), KUBERAY[name])


def _clusters() -> dict[str, dict[str, Any]]:
    return {
        "kuberay.yaml": read("kuberay.yaml")["spec"],
        "kuberay_job.yaml": read("kuberay_job.yaml")["spec"]["rayClusterSpec"],
    }


@pytest.mark.parametrize("name", KUBERAY)
def test_pods_have_what_ray_counts(name: str) -> None:
    """Requests equal limits, and every kind is a custom resource, quoted as the operator hands it to a shell."""
    cluster = _clusters()[name]
    assert cluster["authOptions"] == {"mode": "token"}
    for group in cluster["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        (argument,) = shlex.split(group["rayStartParams"]["resources"].strip())
        kind = group["groupName"].replace("-", "_")
        assert json.loads(argument)[kind] > 0
        assert group["labels"] == {"kind": kind}


def test_the_two_kuberay_manifests_describe_the_same_workers() -> None:
    one, other = _clusters().values()
    assert one["workerGroupSpecs"] == other["workerGroupSpecs"]


def test_everything_is_for_the_ray_that_is_pinned() -> None:
    version = ray_version()
    assert f"FROM rayproject/ray:{version}-" in (DEPLOY / "Dockerfile").read_text()
    assert all(cluster["rayVersion"] == version for cluster in _clusters().values())


def test_the_command_of_the_job_exists() -> None:
    program, command, *arguments = shlex.split(read("kuberay_job.yaml")["spec"]["entrypoint"])
    assert (program, command) == ("raysplit", "train")
    known = {option for parameter in train.params for option in parameter.opts}
    assert {argument for argument in arguments if argument.startswith("--")} <= known
    assert CliRunner().invoke(train, ["--help"]).exit_code == 0


@pytest.mark.parametrize("field", ["workerGroupSpec", "rayversion"])
def test_a_misspelt_field_is_refused(field: str) -> None:
    cluster = read("kuberay.yaml")
    cluster["spec"][field] = {}
    with pytest.raises(jsonschema.ValidationError, match=field):
        jsonschema.validate(cluster, KUBERAY["kuberay.yaml"])


def _strict(schema: Any) -> Any:
    """The schema of a resource definition, in which unknown fields are refused, as by `kubectl --validate=strict`."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _strict(value) for key, value in schema.items()}
    names_fields = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    return {"additionalProperties": False, **found} if names_fields else found


@pytest.mark.skipif("RAYSPLIT_TEST_KUBERAY" not in os.environ, reason="RAYSPLIT_TEST_KUBERAY is KubeRay's crds folder")
@pytest.mark.parametrize(("name", "kind"), [("kuberay.yaml", "rayclusters"), ("kuberay_job.yaml", "rayjobs")])
def test_kuberay_manifests_follow_the_definitions_of_kuberay(name: str, kind: str) -> None:
    """Its helm chart has them, a megabyte each: `helm-chart/kuberay-operator/crds` of its repository."""
    definition = yaml.safe_load((Path(os.environ["RAYSPLIT_TEST_KUBERAY"]) / f"ray.io_{kind}.yaml").read_text())
    (version,) = [each for each in definition["spec"]["versions"] if each["name"] == "v1"]
    schema = _strict(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}  # Kubernetes checks it, not the definition
    jsonschema.validate(read(name), schema)
    misspelt = read(name)
    misspelt["spec"]["rayVersions"] = "2.60.0"
    with pytest.raises(jsonschema.ValidationError, match="rayVersions"):
        jsonschema.validate(misspelt, schema)
