"""The damage that is done to files, and what may be answered to it."""

import json
from random import Random

import pytest

from loadtests.hostile import images, videos
from loadtests.hostile.mutations import edit_length, jpeg_blocks, mp4_blocks, png_blocks, rearrange, riff_blocks, with_checksums
from loadtests.hostile.verdict import fault_of

PROBLEM = {"type": "urn:posewire:problem:bad-picture", "title": "The image cannot be decoded", "status": 400, "detail": "it is damaged"}
KIND = "application/problem+json"


def test_a_png_is_made_of_its_chunks() -> None:
    data = images.sources()["png"]
    blocks = png_blocks(data)
    assert data[:8] + b"".join(data[block.start : block.end] for block in blocks) == data
    assert data[blocks[-1].start + 4 :][:4] == b"IEND"
    spoilt = data[:-1] + b"\0"
    assert with_checksums(spoilt) == data


def test_a_jpeg_is_walked_to_its_scan() -> None:
    data = images.sources()["jpeg"]
    markers = [data[block.start + 1] for block in jpeg_blocks(data)]
    assert markers[0] == 0xE0
    assert markers[-1] == 0xDA
    assert 0xC0 in markers


def test_a_webp_and_an_mp4_are_walked_by_their_lengths() -> None:
    webp, mp4 = images.sources()["webp"], videos.sources()["mp4"]
    assert [webp[block.start : block.start + 4] for block in riff_blocks(webp)] == [b"RIFF", b"VP8 "]
    names = [mp4[block.start + 4 : block.start + 8] for block in mp4_blocks(mp4)]
    assert {b"ftyp", b"moov", b"mdat", b"trak", b"stbl", b"stsz"} <= set(names)


@pytest.mark.parametrize("seed", range(20))
def test_a_length_is_changed_where_it_is_and_blocks_are_moved_whole(seed: int) -> None:
    data = images.sources()["png"]
    blocks = png_blocks(data)
    changed = edit_length(Random(seed), data, blocks)
    assert len(changed) == len(data)
    for at in {block.length_at for block in blocks if changed[block.length_at :][:4] != data[block.length_at :][:4]}:
        assert changed[:at] + changed[at + 4 :] == data[:at] + data[at + 4 :]
    contents = {data[block.start : block.end] for block in blocks}
    moved = rearrange(Random(seed), data, blocks)
    assert {moved[block.start : block.end] for block in png_blocks(moved)} <= contents


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (200, "application/json", b"{}"),
        (200, "image/png", b"\x89PNG"),
        (200, "application/x-ndjson", b'{"type":"video"}\n{"type":"end"}\n'),
        (200, "application/x-ndjson", b'{"type":"video"}\n{"type":"error","problem":{"status":400}}\n'),
        (400, KIND, json.dumps(PROBLEM).encode()),
        (503, KIND, json.dumps(PROBLEM | {"status": 503}).encode()),
        (504, KIND, json.dumps(PROBLEM | {"status": 504}).encode()),
    ],
)
def test_results_and_problems_are_no_faults(status: int, kind: str, body: bytes) -> None:
    assert fault_of(status, kind, body) is None


@pytest.mark.parametrize(
    ("status", "kind", "body", "says"),
    [
        (500, KIND, json.dumps(PROBLEM | {"status": 500}).encode(), "500"),
        (502, "text/html", b"", "502"),
        (302, "text/plain", b"", "302"),
        (200, "text/plain", b"hello", "200 with text/plain"),
        (200, "application/x-ndjson", b'{"type":"video"}\n', "last line"),
        (200, "application/x-ndjson", b'{"type":"vid', "cut off"),
        (200, "application/x-ndjson", b'{"type":"error","problem":{"status":500}}\n', "last line"),
        (400, "text/plain", b"Invalid HTTP request received.", "not application/problem"),
        (400, KIND, b"{", "no JSON"),
        (400, KIND, json.dumps(PROBLEM | {"status": 404}).encode(), "not whole"),
        (400, KIND, b'{"status": 400}', "not whole"),
    ],
)
def test_what_is_the_services_fault_is_told(status: int, kind: str, body: bytes, says: str) -> None:
    fault = fault_of(status, kind, body)
    assert fault is not None
    assert says in fault


def test_pages_are_results_where_they_are_expected() -> None:
    assert fault_of(200, "text/html; charset=utf-8", b"<p>") is not None
    assert fault_of(200, "text/html; charset=utf-8", b"<p>", ("text/html",)) is None
