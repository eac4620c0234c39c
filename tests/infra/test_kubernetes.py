"""``infra/kubernetes``: Kubernetes, the Spark operator, KubeRay and our own programs would take it."""

import argparse
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from referencing import Registry, Resource

import bisieve
from bisieve.cli import score
from bisieve.doctor import machine
from ray_train.cli import train
from ray_train.config import TrainConfig
from ray_train.config_io import read_config

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra/kubernetes"
SCHEMAS = Path(__file__).parent / "schemas"
KUBERNETES = "1.33"


def documents(name: str) -> list[dict[str, Any]]:
    """What a file of manifests holds."""
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def pods(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    """The pods' templates of a Ray cluster."""
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"] for group in groups]


def at(value: Any, path: list[str]) -> Iterator[Any]:
    """What lies at a path, through lists as kustomize goes."""
    if isinstance(value, list):
        for one in value:
            yield from at(one, path)
    elif path:
        yield from at(value[path[0]], path[1:])
    else:
        yield value


KUSTOMIZATION = documents("kustomization.yaml")[0]


def rendered(**node: str) -> list[dict[str, Any]]:
    """Return all manifests with kustomize's replacements made, as it makes those of the kinds that are here.

    ``node`` overrides what node.yaml says of a node.
    """
    manifests = [manifest for name in KUSTOMIZATION["resources"] for manifest in documents(name)]
    named = {(one["kind"], one["metadata"]["name"]): one for one in manifests}
    named["ConfigMap", "node"]["data"].update(node)
    for replacement in KUSTOMIZATION["replacements"]:
        source = replacement["source"]
        (value,) = at(named[source["kind"], source["name"]], source["fieldPath"].split("."))
        for target in replacement["targets"]:
            manifest = named[target["select"]["kind"], target["select"]["name"]]
            for path in target["fieldPaths"]:
                replace_at(manifest, path, value, target.get("options"))
    local = "config.kubernetes.io/local-config"
    return [one for one in manifests if local not in one["metadata"].get("annotations", {})]


def replace_at(manifest: Any, path: str, value: str, options: dict[str, Any] | None) -> None:
    """Replace what is at ``path``, or one word of it; KeyError where there is nothing."""
    *way, last = re.findall(r"\[([^\]]+)\]|([^.\[\]]+)", path)
    for bracket, plain in way:
        name, is_selected, wanted = bracket.partition("=")
        if is_selected:
            (manifest,) = (one for one in manifest if one[name] == wanted)
        else:
            manifest = manifest[int(plain) if isinstance(manifest, list) else bracket or plain]
    key = last[0] or last[1]
    if options:
        words = manifest[key].split(options["delimiter"])
        words[options["index"]] = value
        value = options["delimiter"].join(words)
    assert manifest[key], "kustomize makes no new field"
    manifest[key] = value


def of_kind(kind: str, manifests: list[dict[str, Any]]) -> dict[str, Any]:
    (manifest,) = (one for one in manifests if one["kind"] == kind)
    return manifest


MANIFESTS = rendered()
SCORE, TRAIN = of_kind("SparkApplication", MANIFESTS), of_kind("RayJob", MANIFESTS)
STAYS = documents("../ray/kuberay.yaml")[0]
CLUSTERS = [TRAIN["spec"]["rayClusterSpec"], STAYS["spec"]]
PODS = [pod for cluster in CLUSTERS for pod in pods(cluster)]


def hold_to_schema(manifest: dict[str, Any]) -> None:
    """Raises where the manifest is not one of its kind, or has a field that is not of it."""
    ours = [Resource.from_contents(json.loads(file.read_text())) for file in SCHEMAS.iterdir()]
    registry: Any = Registry().with_resources((one.id(), one) for one in ours)
    if (name := f"{manifest['kind'].lower()}.json") in registry:
        jsonschema.Draft202012Validator({"$ref": name}, registry=registry).validate(manifest)
    else:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


@pytest.mark.parametrize(
    "manifest", [*MANIFESTS, STAYS], ids=lambda one: f"{one['kind']} {one['metadata']['name']}"
)
def test_a_manifest_is_one_of_its_kind_and_a_typo_in_it_is_seen(manifest: dict[str, Any]) -> None:
    hold_to_schema(manifest)
    body = "spec" if "spec" in manifest else "metadata"
    with pytest.raises(jsonschema.ValidationError):
        hold_to_schema({**manifest, body: {**manifest[body], "replcas": 1}})


def test_the_pods_of_a_training_are_pods() -> None:
    for template in PODS:
        body = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": template}
        kubernetes_validate.validate(body, KUBERNETES, strict=True)


def test_nobody_is_root_or_can_become_it() -> None:
    spark = [SCORE["spec"][part]["securityContext"] for part in ("driver", "executor")]
    containers = [container for pod in PODS for container in pod["spec"]["containers"]]
    for context in [*spark, *(container["securityContext"] for container in containers)]:
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        container = {"name": "c", "image": "i", "securityContext": context}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p"},
            "spec": {"containers": [container]},
        }
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    for context in [*spark, *(pod["spec"]["securityContext"] for pod in PODS)]:
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == 10001  # as in the images


def test_kustomize_is_told_of_every_file_and_of_every_image() -> None:
    told = {*KUSTOMIZATION["resources"], *KUSTOMIZATION["configurations"], "kustomization.yaml"}
    assert told == {file.name for file in FOLDER.iterdir()}
    named = {image["name"]: image["newTag"] for image in KUSTOMIZATION["images"]}
    assert named == dict.fromkeys(["bisieve-score", "bisieve-train"], bisieve.__version__)
    found = [
        image
        for path in documents("images.yaml")[0]["images"]
        for manifest in MANIFESTS
        if manifest["kind"] == path["kind"]
        for image in at(manifest, path["path"].split("/"))
    ]
    assert sorted(found) == ["bisieve-score", "bisieve-train", "bisieve-train"]


def test_spark_ray_and_bisieve_are_those_that_all_tests_ran_with() -> None:
    versions = machine.tested_versions()
    assert SCORE["spec"]["sparkVersion"] == versions["pyspark"]
    assert [cluster["rayVersion"] for cluster in CLUSTERS] == [versions["ray"]] * 2
    images = {container["image"] for pod in pods(STAYS["spec"]) for container in pod["spec"]["containers"]}
    assert images == {f"REGISTRY/bisieve-train:{bisieve.__version__}"}


def test_the_programs_take_the_words_that_they_are_given() -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    score.configure(parser)
    parser.parse_args(SCORE["spec"]["arguments"])
    script = SCORE["spec"]["mainApplicationFile"].removeprefix("local:///opt/bisieve/")
    assert (ROOT / script).is_file()
    config = training(TRAIN)
    assert config.device == "gpu", "else it would begin on CPUs where its first pod is late"


def training(job: dict[str, Any]) -> TrainConfig:
    """Return the config of a RayJob's entrypoint."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    train.configure(parser)
    program, command, *words = shlex.split(job["spec"]["entrypoint"])
    assert (program, command) == ("bisieve", "train")
    return read_config(TrainConfig, parser.parse_args(words))


def gpus_of(group: dict[str, Any]) -> int:
    """Return the GPUs of a worker group's pod, all of which Ray has, and check its shared memory for them."""
    pod = group["template"]["spec"]
    (container,) = pod["containers"]
    asked = container["resources"]
    assert asked["requests"] == asked["limits"], "Kubernetes takes no other number of GPUs"
    gpus = int(asked["limits"]["nvidia.com/gpu"])
    assert "num-gpus" not in group["rayStartParams"], "KubeRay takes the limit"
    (memory,) = [one["emptyDir"] for one in pod["volumes"] if one["name"] == "shared-memory"]
    assert memory == {"medium": "Memory", "sizeLimit": f"{16 * gpus}Gi"}
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in container["volumeMounts"]
    return gpus


def test_a_worker_pod_has_all_gpus_of_a_node_and_shared_memory_for_their_ranks() -> None:
    for cluster in CLUSTERS:
        (group,) = cluster["workerGroupSpecs"]
        assert gpus_of(group) == 8


@pytest.mark.parametrize(
    ("node", "gpus"),
    [({}, 8), ({"gpus": "4", "shared-memory": "64Gi", "workers": "4-8"}, 4)],
    ids=["as it is", "of four GPUs"],
)
def test_the_gpus_of_a_node_are_set_at_one_place_and_workers_count_ranks(
    node: dict[str, str], gpus: int
) -> None:
    job = of_kind("RayJob", rendered(**node))
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert gpus_of(group) == gpus
    guide = (ROOT / "docs/how-to/deploy.md").read_text()
    assert all(f"{name}: " in guide and value in guide for name, value in node.items())
    workers = training(job).workers
    assert (workers.least, workers.most) == (group["minReplicas"] * gpus, group["maxReplicas"] * gpus)


def test_the_node_is_told_to_kustomize_and_not_applied() -> None:
    assert not [one for one in MANIFESTS if one["kind"] == "ConfigMap"]
    with pytest.raises(KeyError):
        replace_at({"spec": {}}, "spec.typo.[nvidia.com/gpu]", "4", None)


def test_every_ray_asks_for_a_token_and_is_reached_by_those_that_need_it_alone() -> None:
    assert [cluster["authOptions"] for cluster in CLUSTERS] == [{"mode": "token"}] * 2
    (policy,) = documents("network.yaml")
    own = {"app.kubernetes.io/name": "kuberay"}
    assert policy["spec"]["podSelector"] == {"matchLabels": own}
    for rule in policy["spec"]["ingress"]:
        froms = [one["podSelector"]["matchLabels"] for one in rule["from"]]
        assert froms == [own] or {port["port"] for port in rule["ports"]} <= {8265, 8080}, "no open port"


def test_service_accounts_are_there_for_those_that_name_them() -> None:
    accounts = {one["metadata"]["name"] for one in MANIFESTS if one["kind"] == "ServiceAccount"}
    text = (FOLDER / "score.yaml").read_text() + (FOLDER / "train.yaml").read_text()
    assert set(re.findall(r"serviceAccount(?:Name)?: (\S+)", text)) == accounts
