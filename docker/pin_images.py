"""Writes the digests of other people's images behind their tags.

    python3 docker/pin_images.py [FOLDER]           asks the registries, by skopeo, crane or docker, whichever is installed
    python3 docker/pin_images.py --check [FOLDER]   asks nobody: exit code 1, and the names, where a tag has no digest

FOLDER is the repository's root. An image that is made here, `posewire` or `posewire-cameras`, has no digest before it is pushed. What has
none yet stands in docker/unpinned.txt, so that a release cannot forget it.
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UNPINNED = "docker/unpinned.txt"
OURS = re.compile(r"(?:[\w.\-]+/)*posewire(?:-cameras)?(?:[:@].*)?$")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# A reference in a Dockerfile's default of an argument or its FROM, or after `image:` in a file of Compose or Kubernetes.
_DOCKERFILE = re.compile(r"^(?:ARG BASE=|FROM (?:--platform=\S+ )?)(\S+)", re.MULTILINE)
_YAML = re.compile(r"^\s*(?:- )?image: *[\"']?([^\s\"'#]+)", re.MULTILINE)
_STAGE = re.compile(r"^FROM .* AS (\S+)", re.MULTILINE)


def references(root: Path) -> dict[Path, set[str]]:
    """The images of others that each file names."""
    found = {}
    for path in sorted([*root.glob("docker/Dockerfile*"), *root.glob("docker/*.yaml"), *root.glob("k8s/**/*.yaml")]):
        text = path.read_text(encoding="utf-8")
        names = set(_YAML.findall(text)) if path.suffix == ".yaml" else set(_DOCKERFILE.findall(text)) - set(_STAGE.findall(text))
        found[path] = {name for name in names if name != "scratch" and "${" not in name and not OURS.match(name)}
    return found


def unpinned(root: Path) -> set[str]:
    """The references that have no digest."""
    return {name for names in references(root).values() for name in names if not re.search(f"@{_DIGEST.pattern}$", name)}


def digest_of(name: str) -> str:
    """A tag's digest of today: of the index of all platforms, where there is one.

    Raises:
        RuntimeError: none of the tools is installed, or the registry did not tell.
    """
    tools = {
        "skopeo": ["inspect", "--format={{.Digest}}", "--no-tags", f"docker://{name}"],
        "crane": ["digest", name],
        "docker": ["buildx", "imagetools", "inspect", "--format={{.Manifest.Digest}}", name],
    }
    tool = next((tool for tool in tools if shutil.which(tool)), None)
    if tool is None:
        raise RuntimeError(f"none of {', '.join(tools)} is installed, and nobody else can ask a registry")
    done = subprocess.run([tool, *tools[tool]], check=False, capture_output=True, text=True)
    found = _DIGEST.fullmatch(done.stdout.strip())
    if done.returncode or not found:
        raise RuntimeError(f"{tool} did not tell the digest of {name}: {(done.stderr or done.stdout).strip()}")
    return found[0]


def pin(root: Path) -> dict[str, str]:
    """Write the digest of every reference that has none into all files that name it; what was written, by its reference.

    Raises:
        RuntimeError: as `digest_of`; nothing has been written.
    """
    digests = {name: digest_of(name) for name in sorted(unpinned(root))}
    for path, names in references(root).items():
        text = path.read_text(encoding="utf-8")
        for name in names & digests.keys():
            text = re.sub(rf"{re.escape(name)}(?![\w.@:/-])", f"{name}@{digests[name]}", text)
        path.write_text(text, encoding="utf-8")
    listed = root / UNPINNED
    kept = [line for line in listed.read_text(encoding="utf-8").splitlines() if line not in digests]
    listed.write_text("\n".join(kept) + "\n", encoding="utf-8")
    return digests


def main() -> int:
    """Pin or check; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.check:
        missing = unpinned(options.folder)
        print(*(f"{name} has no digest: make pin-images" for name in sorted(missing)), sep="\n", end="\n" if missing else "")
        return int(bool(missing))
    try:
        digests = pin(options.folder)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    print(*(f"{name}@{digest}" for name, digest in digests.items()), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
