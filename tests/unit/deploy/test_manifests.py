"""Claims about the ways to run it elsewhere: the files agree with the code they start."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from service import settings as service
from worker import settings as worker


DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
PARTS = ("service", "worker")


def names(model: type[BaseModel], prefix: str = "DARKROOM_") -> Iterator[str]:
    """Yield the environment name of every setting."""
    for name, field in model.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            yield from names(group, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}"


KNOWN = {*names(service.Settings), *names(worker.Settings)}


def manifests() -> list[dict[str, Any]]:
    return [document for path in KUBERNETES for document in yaml.safe_load_all(path.read_text())]


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {m["metadata"]["name"]: m for m in manifests() if m["kind"] == kind}


def pod(part: str) -> dict[str, Any]:
    spec: dict[str, Any] = of_kind("Deployment")[f"darkroom-{part}"]["spec"]["template"]["spec"]
    return spec


def compose() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return services


def seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


@pytest.mark.parametrize(
    "path", [DEPLOY / "Dockerfile", DEPLOY / "compose.yaml", *KUBERNETES], ids=lambda p: p.name
)
def test_every_darkroom_name_in_a_file_is_a_setting(path: Path) -> None:
    used = set(re.findall(r"\bDARKROOM_[A-Z_]*[A-Z]\b", path.read_text()))
    assert used <= KNOWN


def test_the_kustomization_names_every_file() -> None:
    resources = yaml.safe_load((DEPLOY / "kubernetes/kustomization.yaml").read_text())["resources"]
    assert {*resources, "kustomization.yaml"} == {path.name for path in KUBERNETES}


@pytest.mark.parametrize("part", PARTS)
def test_a_pod_runs_as_nobody_in_particular_and_writes_only_where_it_may(part: str) -> None:
    assert pod(part)["securityContext"]["runAsNonRoot"] is True
    assert pod(part)["automountServiceAccountToken"] is False
    [container] = pod(part)["containers"]
    assert container["command"] == ["python", "-m", part]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/data", "/tmp"}  # noqa: S108 — a mount point
    assert container["resources"]["limits"]["memory"]


def test_the_service_is_asked_for_its_life_and_for_its_readiness() -> None:
    [container] = pod("service")["containers"]
    [port] = container["ports"]
    probes = {
        name: container[name]["httpGet"]
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert probes == {
        "startupProbe": {"path": "/livez", "port": port["name"]},
        "livenessProbe": {"path": "/livez", "port": port["name"]},
        "readinessProbe": {"path": "/readyz", "port": port["name"]},
    }
    assert str(port["containerPort"]) == of_kind("ConfigMap")["darkroom"]["data"]["DARKROOM_PORT"]


def test_a_worker_gets_longer_to_stop_than_its_jobs_get_to_end() -> None:
    drain = worker.Settings.model_fields["worker"].get_default().drain
    assert pod("worker")["terminationGracePeriodSeconds"] > drain
    assert seconds(compose()["worker"]["stop_grace_period"]) > drain


def test_every_figure_that_a_file_names_is_measured() -> None:
    measured = (DEPLOY.parent / "service" / "metrics.py").read_text()
    named = {name for path in KUBERNETES for name in re.findall(r"darkroom_\w+", path.read_text())}
    assert named
    assert {name for name in named if f'"{name}"' not in measured} == set()


def test_only_workers_get_the_keys_of_upstreams() -> None:
    def secrets(part: str) -> set[str]:
        [container] = pod(part)["containers"]
        return {
            source["secretRef"]["name"] for source in container["envFrom"] if "secretRef" in source
        }

    assert secrets("service") == {"darkroom"}
    assert secrets("worker") == {"darkroom", "darkroom-upstreams"}
    assert "env_file" in compose()["worker"]
    assert "env_file" not in compose()["service"]


def test_no_secret_has_a_value_that_works() -> None:
    for secret in of_kind("Secret").values():
        assert not any(secret["stringData"].values())
    environment = compose()["worker"]["environment"]
    assert environment["DARKROOM_SECRET"].startswith("${DARKROOM_SECRET:?")


def test_the_redis_of_compose_writes_everything_and_evicts_nothing() -> None:
    command = compose()["redis"]["command"]
    said = dict(zip(command[1::2], command[2::2], strict=True))
    assert said["--appendonly"] == "yes"
    assert said["--appendfsync"] == "always"
    assert said["--maxmemory-policy"] == "noeviction"
    assert "ports" not in compose()["redis"]


@pytest.mark.parametrize("part", PARTS)
def test_a_container_of_compose_is_locked_down(part: str) -> None:
    container = compose()[part]
    assert container["user"] == "10001"
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert container["command"] == ["python", "-m", part]


def test_the_image_installs_by_hash_and_ends_as_a_user_without_rights() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    assert any("--require-hashes" in line for line in lines)
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001"]


def test_the_image_has_every_package_that_the_project_ships() -> None:
    copied = re.findall(r"^COPY (?!--from)(\S+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    root = DEPLOY.parent
    assert {"service", "worker", "storage"} <= set(copied)
    assert all((root / path).exists() for path in copied)
    allowed = (root / ".dockerignore").read_text().splitlines()
    assert {f"!{path}" for path in copied} <= set(allowed)
