from pathlib import Path

import pytest

from posewire.cameras.sources import SCHEMES, AllowedPlaces, Source
from posewire.errors import BadParameter, ConfigError, ForbiddenPlace

SETTING = "POSEWIRE_CAMERA_SOURCES"


@pytest.mark.parametrize(
    ("text", "address", "credentials"),
    [
        ("rtsp://cam1/stream", "rtsp://cam1/stream", ""),
        ("rtsp://user:p@ss@cam1:8554/a?b=c", "rtsp://cam1:8554/a?b=c", "user:p@ss"),
        ("http://user@[fe80::1]:81/x", "http://[fe80::1]:81/x", "user"),
        ("/videos/a b.mp4", "/videos/a b.mp4", ""),
    ],
)
def test_a_source_without_its_credentials(text: str, address: str, credentials: str) -> None:
    source = Source.parse(text)
    assert (source.address, source.credentials) == (address, credentials)
    assert source.full == text


@pytest.mark.parametrize(
    "text", ["", "cam1", "ftp://cam1/x", "file:///etc/passwd", "rtsp://", "http://cam:port/", "../x.mp4", "concat:/a|/b"]
)
def test_what_is_no_source(text: str) -> None:
    with pytest.raises(BadParameter, match="source"):
        Source.parse(text)


@pytest.mark.parametrize(
    ("patterns", "source", "allowed"),
    [
        (["rtsp://10.0.0.0/8"], "rtsp://10.1.2.3/x", True),
        (["rtsp://10.0.0.0/8"], "rtsp://11.1.2.3/x", False),
        (["rtsp://10.0.0.0/8"], "http://10.1.2.3/x", False),
        (["rtsp://10.0.0.0/8"], "rtsp://ten.example/x", False),  # a name may lead anywhere
        (["rtsp://fe80::/10"], "rtsp://[fe80::1]/x", True),
        (["http://*.cams.example"], "http://a.cams.example/x", True),
        (["http://*.cams.example"], "http://cams.example/x", False),
        (["http://*.cams.example"], "http://evilcams.example/x", False),
        (["http://Cam1"], "http://cam1:81/x", True),
        (["http://cam1"], "http://user:cam1@other/x", False),
        (["http://*"], "http://anything/x", True),
        (["*"], "/etc/passwd", True),
        ([], "rtsp://cam1/x", False),
        ([], "/etc/passwd", False),
    ],
)
def test_the_list_decides(patterns: list[str], source: str, allowed: bool) -> None:
    check = AllowedPlaces(SETTING, SCHEMES, patterns).check
    if allowed:
        check(Source.parse(source).address)
    else:
        with pytest.raises(ForbiddenPlace, match="POSEWIRE_CAMERA_SOURCES"):
            check(Source.parse(source).address)


def test_a_folder_allows_what_is_in_it_and_no_link_out_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "a.mp4").touch()
    (tmp_path / "secret").touch()
    (folder / "link").symlink_to(tmp_path / "secret")
    allowed = AllowedPlaces(SETTING, SCHEMES, [str(folder)])
    allowed.check(str(folder / "a.mp4"))
    for outside in (folder / "link", folder / ".." / "secret", tmp_path / "videos2"):
        with pytest.raises(ForbiddenPlace):
            allowed.check(str(outside))


@pytest.mark.parametrize("pattern", ["cam1", "ftp://cam1", "rtsp://", "videos/"])
def test_a_bad_pattern_is_named(pattern: str) -> None:
    with pytest.raises(ConfigError, match="POSEWIRE_CAMERA_SOURCES"):
        AllowedPlaces(SETTING, SCHEMES, [pattern])


@pytest.mark.parametrize(
    ("source", "is_file"),
    [("/nowhere/a.mp4", True), ("/dev/video0", False), ("/dev/v4l/by-id/usb-cam", False), ("rtsp://cam1/x", False)],
)
def test_a_path_is_a_file_unless_it_is_a_device(source: str, is_file: bool) -> None:
    assert Source.parse(source).is_file is is_file


def test_a_device_is_allowed_by_its_path() -> None:
    allowed = AllowedPlaces(SETTING, SCHEMES, ["/dev/video0"])
    allowed.check("/dev/video0")
    for other in ("/dev/video1", "/dev/video0/../mem", "/dev"):
        with pytest.raises(ForbiddenPlace):
            allowed.check(other)
