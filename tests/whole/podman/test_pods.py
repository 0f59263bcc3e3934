"""Pods: containers that are started, stopped and described together."""

import json
from pathlib import Path

import pytest
from podman_host import CGROUPS, remove_cgroup

pytestmark = pytest.mark.runc

IDLE = ("sleep", "1000")


def told(podman, pod: str) -> dict:
    return json.loads(podman.call("pod", "inspect", pod).stdout)


def test_a_pods_containers_live_and_end_together(podman) -> None:
    pod = podman.name()
    podman.call("pod", "create", "--infra=false", "--name", pod)
    names = [podman.run(*IDLE, options=("--pod", pod)) for _ in range(2)]
    assert told(podman, pod)["State"] == "Running"
    podman.call("pod", "stop", "--time", 0, pod)
    assert [podman.ended(name) for name in names] == [137, 137]
    podman.call("pod", "start", pod)
    assert [podman.state(name)["Running"] for name in names] == [True, True]
    podman.call("pod", "rm", "--force", "--time", 0, pod)
    assert not any(podman.exists(name) for name in names)


def test_an_infra_container_holds_what_a_pod_shares(podman) -> None:
    """The pod's own container has a shim as the others have."""
    pod = podman.name()
    pidfile = podman.home / "infra.pid"
    podman.call(
        "pod", "create", "--name", pod, "--infra-conmon-pidfile", pidfile,
        "--share", "ipc,uts", "--network", "none",
    )  # fmt: skip
    name = podman.run("sh", "-c", "hostname", options=("--pod", pod))
    assert podman.ended(name) == 0
    assert podman.output(name) == f"{pod}\n".encode()
    infra = told(podman, pod)["InfraContainerID"]
    assert pidfile.read_text() == str(podman.state(infra)["ConmonPid"])


@pytest.fixture
def shared_cgroup():
    """Where Podman puts a played pod: there is no option to have it elsewhere."""
    cgroups = [*CGROUPS.glob("libpod_parent"), *CGROUPS.glob("*/libpod_parent")]
    yield
    for cgroup in (*CGROUPS.glob("libpod_parent"), *CGROUPS.glob("*/libpod_parent")):
        if cgroup not in cgroups:
            remove_cgroup(cgroup)


def test_a_pod_is_described_and_played(podman, tmp_path: Path, shared_cgroup) -> None:
    pod = podman.name()
    podman.call("pod", "create", "--infra=false", "--name", pod)
    podman.run("sh", "-c", "echo played; exec sleep 1000", options=("--pod", pod))
    described = podman.call("generate", "kube", pod).stdout
    podman.call("pod", "rm", "--force", "--time", 0, pod)
    (tmp_path / "pod.yaml").write_bytes(described)
    podman.call("play", "kube", "--network", "none", tmp_path / "pod.yaml")
    assert told(podman, pod)["State"] == "Running"
    podman.call("play", "kube", "--down", tmp_path / "pod.yaml")
    assert podman.call("pod", "exists", pod, check=False).returncode == 1
