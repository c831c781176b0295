"""Attribution to containers by the names that engines give to cgroups."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent.holder.container import cgroup_path, container_of
from secret_agent.holder.proc import CgroupLine, parse_cgroup

A = "93529524695bb00d91c1f6dba692ea8d3550c3b94fb2463af7bc9ec82f992d26"
B = "09bc3d7ade839efec32b6bec4ec79d099027a668ddba043083ec21d3c3b8f1e6"
POD = "poda2830d0d-b0f0-4ff0-81b5-0ee4e299cf80"
SLICE = "kubepods-besteffort-pod72f7f152_440c_66ac_9084_e0fc1d8a910c.slice"
TASK = "3a3f9f6c7f0e4c8c9d3c0f4f2a1b5c6d-1234567890"
USER = "/user.slice/user-1000.slice/user@1000.service"

PATHS = {
    "docker, cgroupfs": (f"/docker/{A}", A),
    "docker, systemd": (f"/system.slice/docker-{A}.scope", A),
    "docker, systemd within": (f"/system.slice/docker-{A}.scope/init.scope", A),
    "docker, seen from a sibling": (f"/../docker-{A}.scope", A),
    "docker, the id twice": (f"/docker/{A}/docker/{A}/system.slice", A),
    "podman, root": (f"/machine.slice/libpod-{A}.scope", A),
    "podman, rootless": (f"{USER}/user.slice/libpod-{A}.scope/container", A),
    "podman, cgroupfs": (f"/libpod_parent/libpod-{A}", A),
    "podman's monitor runs outside": (f"/machine.slice/libpod-conmon-{A}.scope", None),
    "podman's cgroupfs monitor too": ("/libpod_parent/conmon", None),
    "containerd in a pod, cgroupfs": (f"/kubepods/besteffort/{POD}/{A}", A),
    "containerd in a pod, systemd": (f"/kubepods.slice/{SLICE}/cri-containerd-{A}.scope", A),
    "containerd, drivers mixed": (f"/system.slice/{SLICE}:cri-containerd:{A}", A),
    "nerdctl": (f"{USER}/user.slice/nerdctl-{A}.scope", A),
    "crio in a pod": (f"/kubepods.slice/{SLICE}/crio-{A}.scope", A),
    "crio's monitor runs outside": (f"/kubepods.slice/{SLICE}/crio-conmon-{A}.scope", None),
    "a pod, but no container of it": (f"/kubepods/besteffort/{POD}", None),
    "kubepods, but no pod": ("/kubepods.slice/kubepods-besteffort.slice", None),
    "kubelet": ("/system.slice/kubelet.service", None),
    "kind: the inner one": (f"/docker/{A}/kubepods/besteffort/{POD}/{B}", B),
    "ECS": (f"/ecs/c6f0b3a0/{A}", A),
    "Fargate": (f"/ecs/x/{TASK}", TASK),
    "buildkit": ("/docker/buildkit/x4k0qf2m8s7d1v9z3c5b6n2aa", "x4k0qf2m8s7d1v9z3c5b6n2aa"),
    "lxc": ("/lxc/web/system.slice", "web"),
    "lxc, unified": ("/lxc.payload.web/init.scope", "web"),
    "lxc's monitor runs outside": ("/lxc.monitor.web", None),
    "machined": ("/machine.slice/machine-debian.scope/payload", "debian"),
    "nspawn as a service": ("/machine.slice/systemd-nspawn@debian.service/payload", "debian"),
    "a session of a person": ("/user.slice/user-1000.slice/session-3.scope", None),
    "a terminal of a desktop": (f"{USER}/app.slice/vte-spawn-1.scope", None),
    "the root": ("/", None),
    "too short for an id": (f"/docker/{A[:-1]}", None),
    "too long for an id": (f"/docker/{A}0", None),
    "no hex": (f"/docker/{A[:-1]}g", None),
    "upper case is no id": (f"/docker/{A.upper()}", None),
}  # fmt: skip  # a table


def lines(*paths: str) -> tuple[CgroupLine, ...]:
    return tuple(CgroupLine(number, "", path) for number, path in enumerate(paths))


@pytest.mark.parametrize(("path", "container"), PATHS.values(), ids=PATHS)
def test_the_container_is_the_one_in_the_path(path: str, container: str | None) -> None:
    assert container_of(lines(path)) == container


def test_one_container_on_many_hierarchies_is_one() -> None:
    assert container_of(lines("/", f"/docker/{A}", f"/system.slice/docker-{A}.scope")) == A


def test_the_inner_container_wins_over_the_outer_on_another_hierarchy() -> None:
    """As kind writes it: the unified hierarchy stops at the outer container."""
    inner = f"/docker/{A}/kubepods/besteffort/{POD}/{B}"
    raw = f"13:name=systemd:{inner}\n12:pids:{inner}\n0::/docker/{A}/system.slice/a.service\n"
    assert container_of(parse_cgroup(raw.encode())) == B


def test_two_unrelated_containers_are_both_told_and_equal_neither() -> None:
    assert container_of(lines(f"/docker/{A}", f"/docker/{B}")) == f"{B}+{A}"


def test_no_cgroups_name_no_container() -> None:
    assert container_of(()) is None


@given(st.lists(st.text(max_size=80), max_size=4))
def test_any_paths_are_attributed_without_error(paths: list[str]) -> None:
    container_of(lines(*paths))
    assert cgroup_path(lines(*paths)) in {*paths, "/", ""}


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"0::/user.slice\n", "/user.slice"),
        (b"4:memory:/m\n1:name=systemd:/s\n0::/u\n", "/u"),
        (b"4:memory:/m\n1:name=systemd:/s\n0::/\n", "/s"),
        (b"4:memory:/m\n1:name=systemd:/\n0::/\n", "/m"),
        (b"0::/\n", "/"),
        (b"", ""),
    ],
)
def test_the_path_shown_is_the_one_that_says_most(raw: bytes, path: str) -> None:
    assert cgroup_path(parse_cgroup(raw)) == path
