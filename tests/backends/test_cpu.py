import os
from pathlib import Path

import pytest

from posewire.backends.cpu_limit import cpu_limit


def tree(root: Path, cgroup: str | None, **files: str) -> Path:
    """A fake file system: /proc/self/cgroup and the given files below /sys/fs/cgroup, `__` for a slash."""
    if cgroup is not None:
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        write(root, name.replace("__", "/"), text)
    return root


def write(root: Path, name: str, text: str) -> None:
    path = root / "sys/fs/cgroup" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


V2 = "0::/kubepods/pod1/c1\n"
V1 = "4:memory:/docker/x\n2:cpu,cpuacct:/docker/x\n1:name=systemd:/docker/x\n"


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("200000 100000", 2), ("150000 100000", 2), ("100001 100000", 2), ("50000 100000", 1), ("1000 100000", 1), ("25000 10000", 3)],
)
def test_a_v2_quota_is_rounded_up_to_whole_cores(tmp_path: Path, quota: str, cores: int) -> None:
    tree(tmp_path, V2)
    write(tmp_path, "kubepods/pod1/c1/cpu.max", quota + "\n")
    assert cpu_limit(tmp_path, affinity=64) == cores


def test_the_smallest_quota_on_the_way_up_wins(tmp_path: Path) -> None:
    tree(tmp_path, V2)
    write(tmp_path, "kubepods/pod1/c1/cpu.max", "max 100000\n")
    write(tmp_path, "kubepods/pod1/cpu.max", "300000 100000\n")
    write(tmp_path, "kubepods/cpu.max", "800000 100000\n")
    assert cpu_limit(tmp_path, affinity=64) == 3


def test_a_sibling_or_child_group_does_not_matter(tmp_path: Path) -> None:
    tree(tmp_path, V2)
    write(tmp_path, "kubepods/pod1/c1/cpu.max", "400000 100000\n")
    write(tmp_path, "kubepods/pod1/c2/cpu.max", "100000 100000\n")
    write(tmp_path, "kubepods/pod1/c1/child/cpu.max", "100000 100000\n")
    assert cpu_limit(tmp_path, affinity=64) == 4


@pytest.mark.parametrize("cgroup", ["0::/\n", "0::/../../system.slice/x\n", "0::/not/mounted/here\n", "0::/gone (deleted)\n", None])
def test_a_container_s_own_root_counts_whatever_proc_says(tmp_path: Path, cgroup: str | None) -> None:
    tree(tmp_path, cgroup)
    write(tmp_path, "cpu.max", "200000 100000\n")
    assert cpu_limit(tmp_path, affinity=64) == 2


def test_a_path_that_climbs_out_is_not_followed(tmp_path: Path) -> None:
    tree(tmp_path, "0::/../outside\n")
    write(tmp_path, "../outside/cpu.max", "100000 100000\n")
    assert cpu_limit(tmp_path, affinity=8) == 8


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
@pytest.mark.parametrize("group", ["docker/x", "docker", "."])
def test_a_v1_quota_counts_at_every_level_of_either_mount(tmp_path: Path, mount: str, group: str) -> None:
    tree(tmp_path, V1)
    write(tmp_path, f"{mount}/{group}/cpu.cfs_quota_us", "250000\n")
    write(tmp_path, f"{mount}/{group}/cpu.cfs_period_us", "100000\n")
    assert cpu_limit(tmp_path, affinity=64) == 3


def test_a_v1_quota_of_minus_one_is_none_but_its_parent_counts(tmp_path: Path) -> None:
    tree(tmp_path, V1)
    for group, quota in (("docker/x", "-1"), ("docker", "600000")):
        write(tmp_path, f"cpu,cpuacct/{group}/cpu.cfs_quota_us", quota)
        write(tmp_path, f"cpu,cpuacct/{group}/cpu.cfs_period_us", "100000")
    assert cpu_limit(tmp_path, affinity=64) == 6


def test_in_the_other_order_of_controllers_too(tmp_path: Path) -> None:
    tree(tmp_path, "3:cpuacct,cpu:/a\n")
    write(tmp_path, "cpuacct,cpu/a/cpu.cfs_quota_us", "200000")
    write(tmp_path, "cpuacct,cpu/a/cpu.cfs_period_us", "100000")
    assert cpu_limit(tmp_path, affinity=64) == 2


def test_in_a_hybrid_the_lesser_of_both_versions_counts(tmp_path: Path) -> None:
    tree(tmp_path, "1:cpu:/\n0::/a\n")
    write(tmp_path, "unified/a/cpu.max", "500000 100000")
    assert cpu_limit(tmp_path, affinity=64) == 5
    write(tmp_path, "cpu/cpu.cfs_quota_us", "200000")
    write(tmp_path, "cpu/cpu.cfs_period_us", "100000")
    assert cpu_limit(tmp_path, affinity=64) == 2


def test_a_controller_that_only_sounds_alike_is_not_the_cpu(tmp_path: Path) -> None:
    tree(tmp_path, "3:cpuset:/a\n2:cpuacct:/a\n")
    for mount in ("cpuset", "cpuacct"):
        write(tmp_path, f"{mount}/a/cpu.cfs_quota_us", "100000")
        write(tmp_path, f"{mount}/a/cpu.cfs_period_us", "100000")
    assert cpu_limit(tmp_path, affinity=8) == 8


@pytest.mark.parametrize(
    "text", ["", "max 100000", "max", "200000", "0 100000", "-5 100000", "100000 0", "1 2 3", "many few", "1e5 1e5", "\x00"]
)
def test_an_odd_file_is_no_limit(tmp_path: Path, text: str) -> None:
    tree(tmp_path, "0::/\n")
    write(tmp_path, "cpu.max", text)
    assert cpu_limit(tmp_path, affinity=8) == 8


def test_bytes_that_are_no_text_and_a_folder_in_place_of_a_file_are_no_limit(tmp_path: Path) -> None:
    tree(tmp_path, "0::/a\nnonsense\n")
    (tmp_path / "sys/fs/cgroup/a/cpu.max").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_bytes(b"\xff\xfe")
    assert cpu_limit(tmp_path, affinity=8) == 8


def test_nothing_there_is_no_limit(tmp_path: Path) -> None:
    assert cpu_limit(tmp_path, affinity=12) == 12


def test_the_affinity_counts_where_it_is_less(tmp_path: Path) -> None:
    tree(tmp_path, "0::/\n")
    write(tmp_path, "cpu.max", "800000 100000")
    assert cpu_limit(tmp_path, affinity=3) == 3
    assert cpu_limit(tmp_path, affinity=0) == 1


def test_by_default_the_process_s_own_affinity_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 5}, raising=False)
    assert cpu_limit(tmp_path) == 3


def test_without_affinity_the_machine_s_cores_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert cpu_limit(tmp_path) == 7


def test_the_real_machine_has_a_sound_answer() -> None:
    assert 1 <= cpu_limit() <= (os.cpu_count() or 1)
