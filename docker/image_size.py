"""What takes how much of an image."""

import os
import re
from collections import Counter
from pathlib import Path

_SHOWN_BYTES = 2_000_000


def report_size(root: Path) -> float:
    """Print it; megabytes (10^6) in all."""
    owners = debian_owners(root)
    sizes: Counter[str] = Counter()
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            sizes[_part(path.relative_to(root).as_posix(), owners)] += path.lstat().st_size
    large = {part: size for part, size in sizes.most_common() if size >= _SHOWN_BYTES}
    for part, size in large.items():
        print(f"{size / 1e6:7.1f} MB  {part}")
    total = sum(sizes.values())
    print(f"{(total - sum(large.values())) / 1e6:7.1f} MB  {len(sizes) - len(large)} more, each below {_SHOWN_BYTES / 1e6:.0f} MB")
    print(f"{total / 1e6:7.1f} MB  in all, unpacked")
    return total / 1e6


def debian_owners(root: Path) -> dict[str, str]:
    """The Debian package of every file, by its path from the root."""
    owners = {}
    for listing in (root / "var/lib/dpkg/info").glob("*.list"):
        for line in listing.read_text().splitlines():
            path = line.lstrip("/")
            owners["usr/" + path if path.startswith(("lib", "bin", "sbin")) else path] = listing.stem.split(":")[0]
    return owners


def _part(path: str, owners: dict[str, str]) -> str:
    """What a file of the image belongs to."""
    if not path.startswith("opt/posewire/"):
        return f"Debian: {owners.get(path, 'its own records')}"
    found = re.search(r"site-packages/([^/]+)", path)
    package = found[1].split("-")[0].removesuffix(".libs") if found else "the environment's scripts"
    if package == "posewire":
        return "Posewire: models" if "_model_store" in path else "Posewire"
    return "Python: OpenCV" if package in ("cv2", "opencv_python_headless") else f"Python: {package}"
