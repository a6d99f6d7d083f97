"""decode() in a process that has no memory left: that is not the fault of the image."""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

# Each image is decoded once, then with 2 MB to spare and with ever more, then with enough memory again.
DECODE = """
import resource, sys
import cv2
from posewire.errors import ServiceError
from posewire.imaging.decode import decode

def answer(data):
    try:
        return decode(data, max_bytes=10**8, max_pixels=10**8).width
    except ServiceError as error:
        return f"{error.status} {error.slug}"

cv2.setNumThreads(1)
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        data = file.read()
    first = answer(data)
    with open("/proc/self/status") as status:
        [used] = [int(line.split()[1]) for line in status if line.startswith("VmSize")]
    resource.setrlimit(resource.RLIMIT_AS, (used * 1024 + 2_000_000, resource.RLIM_INFINITY))
    short = answer(data)
    more = set()
    for spare in range(0, 120_000_000, 10_000_000):
        resource.setrlimit(resource.RLIMIT_AS, (used * 1024 + spare, resource.RLIM_INFINITY))
        more.add(answer(data))
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(first, short, answer(data), *sorted(map(str, more)), sep=", ")
"""
# What is freed goes back to the system at once. Else the second image finds the memory of the first, however little there is.
ENVIRONMENT = {**os.environ, "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
W, H = 3000, 2000
KINDS: dict[str, dict[str, Any]] = {
    "JPEG": {},
    "progressive JPEG": {"progressive": True},
    "PNG": {"compress_level": 1},
    "WEBP": {"quality": 1, "method": 0},
    "BMP": {},
    "AVIF": {"quality": 10, "speed": 10},
}


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS and /proc are Linux's")
def test_a_lack_of_memory_is_a_fault_of_the_service(tmp_path: Path) -> None:
    image = Image.new("RGB", (W, H), (9, 200, 3))
    for name, options in KINDS.items():
        file = io.BytesIO()
        image.save(file, name.split()[-1], **options)
        (tmp_path / name).write_bytes(file.getvalue())
    (tmp_path / "damaged").write_bytes((tmp_path / "progressive JPEG").read_bytes()[:-100])
    paths = [tmp_path / name for name in [*KINDS, "damaged"]]
    lines = subprocess.run(
        [sys.executable, "-c", DECODE, *paths], check=True, capture_output=True, text=True, timeout=120, env=ENVIRONMENT
    ).stdout.splitlines()
    for name, line in zip(KINDS, lines[:-1], strict=True):
        first, short, last, *more = line.split(", ")
        assert (first, short, last) == (str(W), "503 out-of-memory", str(W)), name
        assert set(more) <= {str(W), "503 out-of-memory"}, name
    first, _, last, *_ = lines[-1].split(", ")
    assert first == last == "400 bad-picture"
