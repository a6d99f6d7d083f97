"""Builds an image with Buildah and no daemon, and runs it with runc as Kubernetes would.

    python3 docker/check.py [FOLDER]              FOLDER keeps the base and the CPU image's layers for the next time
    python3 docker/check.py [FOLDER] --gpu        the GPU image: downloads 2 GB, takes 15 GB of disk meanwhile; needs no GPU

Needs root and Debian's buildah, debootstrap and runc. A base made by debootstrap stands in for the registry's
debian:trixie-slim. Prints what the image is made of and fails where it is larger than it may be, or where as non-root, on
a read-only root, without capabilities and with one core of quota it does not answer an image and stop at SIGTERM. The GPU image
does so on the CPU, to which `auto` falls back; that the loader finds every library of CUDA's but the driver's is asked besides.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from image_size import report_size

ROOT = Path(__file__).resolve().parents[1]
SUITE = "trixie"
_LIMITS_MB = {"cpu": 450, "gpu": 3000}
PORT = 18437
USER = 10001

# What a process of the image sees of itself.
_LOOK = """
import os
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
try:
    open("/opt/posewire/x", "w")
except OSError as error:
    root = error.strerror
print("uid", os.getuid(), "capabilities", int(status["CapEff"], 16), "no new privileges", status["NoNewPrivs"].strip(), "root:", root)
"""
_EXPECTED = f"uid {USER} capabilities 0 no new privileges 1 root: Read-only file system"

# What the loader does not find for ONNX Runtime's part for CUDA, in the environment of the image.
_MISSING = """
import subprocess, sysconfig
library = sysconfig.get_path("purelib") + "/onnxruntime/capi/libonnxruntime_providers_cuda.so"
found = subprocess.run(["ldd", library], check=True, capture_output=True, text=True).stdout
print(*sorted({line.split()[0] for line in found.splitlines() if "not found" in line}))
"""
_DRIVER = "libcuda.so.1"

# What is installed and does not stand in the list of packages that lies in the image.
_UNLISTED = """
import importlib.metadata, json
named = {part["name"].lower() for part in json.load(open("/usr/share/sbom/posewire.cdx.json"))["components"]}
print(*sorted({found.name for found in importlib.metadata.distributions() if found.name.lower() not in named}))
"""

# What the registry's slim images leave out as well.
SLIMMED = ("var/lib/apt/lists", "var/cache", "var/log", "usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale")
# How this machine reaches its package registries; the build does as it does.
REGISTRY_FILES = ("/etc/pip.conf", "/etc/ssl/certs", "/usr/local/share/ca-certificates")


def run(*command: str | Path, **options: object) -> str:
    """A command's output; its errors are shown."""
    return subprocess.run([*map(str, command)], check=True, stdout=subprocess.PIPE, text=True, **options).stdout.strip()  # type: ignore[call-overload,no-any-return]


class Buildah:
    """Buildah with a storage of its own, so that nothing of the machine's is touched."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.storage: list[str | Path] = ["--root", work / "storage", "--runroot", work / "run", "--storage-driver", "vfs"]

    def __call__(self, *arguments: str | Path) -> str:
        """Run a subcommand."""
        command, *rest = arguments
        return run("buildah", *self.storage, command, *rest, cwd=ROOT)

    def base(self) -> None:
        """Make the image that stands in for debian:trixie-slim, if it is not there."""
        if "posewire-base" in self("images", "--format", "{{.Name}}"):
            return
        sources = [*Path("/etc/apt/sources.list.d").glob("*.sources"), Path("/etc/apt/sources.list")]
        text = "\n".join(path.read_text() for path in sources if path.exists())
        mirrors = re.findall(r"^(?:URIs: |deb )(http\S+)", text, re.MULTILINE)
        folder = self.work / "base"
        run("debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, folder, mirrors[0])
        run("find", *[folder / path for path in SLIMMED], "-mindepth", "1", "-delete")
        container = self("from", "scratch")
        self("copy", "-q", container, folder, "/")
        self("commit", "-q", "--rm", container, "localhost/posewire-base")
        run("rm", "-rf", folder)

    def build(self, kind: str) -> str:
        """Build the image of a kind, cpu or gpu; its name."""
        name = f"localhost/posewire:{kind}"
        volumes = [f"--volume={path}:{path}:ro" for path in REGISTRY_FILES if Path(path).exists()]
        revision = run("git", "rev-parse", "HEAD", cwd=ROOT)
        arguments = ["--build-arg=BASE=localhost/posewire-base", f"--build-arg=REVISION={revision}", "-f", f"docker/Dockerfile.{kind}"]
        layers = ["--layers"] if kind == "cpu" else []  # of the other, one would be kept for each line, of gigabytes
        self(
            "build",
            "--isolation=chroot",
            "--pull-never",
            "--format=docker",
            *volumes,
            *arguments,
            *layers,
            "-t",
            name,
            ".",
        )
        return name

    @contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        """The image's files."""
        container = self("from", "--pull-never", image)
        try:
            yield Path(self("mount", container))
        finally:
            self("rm", container)


def runtime_config(root: Path, image: dict[str, list[str]], more: Sequence[str]) -> dict[str, object]:
    """An OCI runtime's configuration: what the Deployment's security context asks for, and one core of quota; `more` variables."""
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "size=256m"]},  # noqa: S108
        {"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "ro"]},
    ]
    return {
        "ociVersion": "1.0.0",
        "root": {"path": str(root), "readonly": True},
        "process": {
            "user": {"uid": USER, "gid": USER},
            "args": [*image["Entrypoint"], *image["Cmd"]],
            "env": [*image["Env"], f"POSEWIRE_PORT={PORT}", *more],
            "cwd": "/",
            "capabilities": {},
            "noNewPrivileges": True,
        },
        "mounts": mounts,
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],  # the host's network: the loopback answers
            "resources": {"cpu": {"quota": 100_000, "period": 100_000}, "memory": {"limit": 1 << 30}},
        },
    }


def ask(path: str, body: bytes | None = None) -> dict[str, object]:
    """The service's answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", body, {"Content-Type": "image/jpeg"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        answered: dict[str, object] = json.load(answer)
        return answered


def wait_until_ready(process: subprocess.Popen[bytes]) -> float:
    """Seconds from the start to /readyz."""
    started = time.monotonic()
    while process.poll() is None and time.monotonic() < started + 60:
        try:
            ask("/readyz")
            return time.monotonic() - started
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise SystemExit("the container does not become ready")


def check_container(root: Path, image: dict[str, list[str]], work: Path, kind: str) -> None:
    """Run the image's files as a container and use it."""
    bundle = work / "bundle"
    bundle.mkdir(exist_ok=True)
    more = ["POSEWIRE_DEVICE=auto"] if kind == "gpu" else []
    (bundle / "config.json").write_text(json.dumps(runtime_config(root, image, more)))
    runc = ["runc", "--root", str(work / "runc")]
    name = f"posewire-check-{os.getpid()}"
    with subprocess.Popen([*runc, "run", "--bundle", str(bundle), name]) as process:
        try:
            print(f"ready after {wait_until_ready(process):.1f} s")
            answer = ask("/v1/pose", (ROOT / "tests/data/astronaut.jpg").read_bytes())
            people = len(answer["images"][0]["people"])  # type: ignore[index]
            models = ask("/v1/models")
            print(f"answered an image: {people} people, on {models['device']}, {models['workers']} run(s) side by side")
            status = run(*runc, "exec", name, "python", "-c", _LOOK)
            print(f"inside: {status}")
            run(*runc, "exec", name, "python", "/opt/posewire/healthcheck.py")
            unlisted = run(*runc, "exec", name, "python", "-c", _UNLISTED)
            missing = run(*runc, "exec", name, "python", "-c", _MISSING) if kind == "gpu" else ""
            run(*runc, "kill", name, "TERM")
            code = process.wait(30)
        finally:
            process.kill()
            subprocess.run([*runc, "delete", "--force", name], check=False, stderr=subprocess.DEVNULL)
    print(f"exit code at SIGTERM: {code}")
    if not people or models["workers"] != 1 or code != 0 or status != _EXPECTED:
        raise SystemExit(f"not as it should be; expected {_EXPECTED}")
    if unlisted:
        raise SystemExit(f"not in the image's list of packages: {unlisted}")
    if kind == "gpu":
        print(f"libraries of CUDA's provider that are not in the image: {missing}")
        if missing != _DRIVER:
            raise SystemExit(f"not as it should be; expected {_DRIVER}, which the host's driver brings")


def main() -> int:
    """Build, measure, run; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--gpu", action="store_true")
    options = parser.parse_args()
    kind = "gpu" if options.gpu else "cpu"
    work = (options.folder or Path(tempfile.mkdtemp(prefix="posewire-image-"))).resolve()
    work.mkdir(parents=True, exist_ok=True)
    buildah = Buildah(work)
    buildah.base()
    name = buildah.build(kind)
    with buildah.mounted(name) as root:
        total = report_size(root)
        check_container(root, json.loads(buildah("inspect", "--type", "image", name))["OCIv1"]["config"], work, kind)
    limit = _LIMITS_MB[kind]
    print(f"{total:.0f} MB unpacked, limit {limit}")
    return int(total > limit)


if __name__ == "__main__":
    sys.exit(main())
