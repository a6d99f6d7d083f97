"""The npm package: its own tests against real services, its types, and the tarball as its users get it."""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from playwright.async_api import Route

from tests.npm.conftest import NPM, SOURCE, run
from tests.sample_images import ASTRONAUT
from tests.server.streaming import Listen
from tests.server_process import Server
from tests.web.conftest import OpenPage

ROOT = SOURCE.parent

MODULE = """
import { readFile } from 'node:fs/promises';
import { PoseClient } from 'posewire';

const client = new PoseClient(process.argv[2]);
const { images } = await client.pose(await readFile(process.argv[3]), { max_people: 1 });
console.log(images[0].people.length, images[0].people[0].keypoints.length);
"""

# Also compiled where only the browser's types are known.
TYPED = """
import { ConnectionLost, PoseClient, ServiceError, type PoseResponse, type ProblemType, type StreamResult } from 'posewire';

export async function count(url: string, image: Blob): Promise<number> {
  const client = new PoseClient(url, { apiKey: 'pw_x', WebSocket });
  const answer: PoseResponse = await client.pose(image, { max_people: 3, boxes: [[0, 0, 10, 10]] });
  const rows: number[] = (await client.pose([image], { format: 'coco' }))[0]!.keypoints;
  const other: unknown = await client.pose(image, { format: 'csv' });
  const stream = client.stream({ smooth: false, onReconnect: ({ error }) => console.log(error.message) });
  if (stream.ready) stream.offer(image);
  for await (const { people, error } of stream) {
    const type: ProblemType | undefined = error?.type;
    const id: number | null | undefined = people[0]?.track_id;
    console.log(type, id, rows, other, error instanceof ServiceError, error instanceof ConnectionLost);
  }
  // @ts-expect-error there is no such option
  await client.pose(image, { max_persons: 1 });
  // @ts-expect-error an image is not a path
  await client.pose('image.jpg');
  return answer.images[0]!.people[0]!.keypoints[0]!.x;
}

export const ids = (results: StreamResult[]): unknown => results.map(({ frame }) => frame);
"""


def test_the_tests_of_the_package_pass(package: Path, service_variables: dict[str, str]) -> None:
    assert NPM is not None
    printed = run([NPM, "test"], package, **service_variables).stdout
    assert "# fail 0" in printed
    assert "# cancelled 0" in printed


def test_the_types_are_those_of_the_schemas(package: Path) -> None:
    schemas = subprocess.run([sys.executable, str(SOURCE / "scripts" / "schemas.py")], check=True, capture_output=True).stdout
    made = subprocess.run(["node", "scripts/messages.mjs"], check=True, capture_output=True, cwd=package, input=schemas).stdout
    assert (SOURCE / "src" / "messages.ts").read_bytes() == made, "run `make npm-messages`"


def test_the_tarball_has_what_is_needed_and_nothing_else(project: Path) -> None:
    installed = project / "node_modules" / "posewire"
    files = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    modules = {path.stem for path in (SOURCE / "src").glob("*.ts")}
    built = {f"dist/{module}{suffix}" for module in modules for suffix in (".js", ".js.map", ".d.ts", ".d.ts.map")}
    assert files == {"package.json", "README.md", "LICENSE"} | {f"src/{module}.ts" for module in modules} | built
    assert "dependencies" not in json.loads((installed / "package.json").read_text())


def test_an_installed_package_sends_an_image(project: Path, server: Server) -> None:
    (project / "send.mjs").write_text(MODULE)
    assert run(["node", "send.mjs", server.url, str(ASTRONAUT)], project).stdout.split() == ["1", "17"]


def test_the_types_of_an_installed_package_are_strict(project: Path, package: Path) -> None:
    (project / "typed.mts").write_text(TYPED)
    compiler = str(package / "node_modules" / "typescript" / "bin" / "tsc")
    options = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom", "--types", ""]
    run(["node", compiler, *options, "typed.mts"], project)


def test_the_versions_of_both_packages_are_the_same() -> None:
    python = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert json.loads((SOURCE / "package.json").read_text())["version"] == python
    assert json.loads((SOURCE / "package-lock.json").read_text())["version"] == python


async def test_the_package_works_in_a_browser(package: Path, listen: Listen, open_page: OpenPage) -> None:
    server = await listen(stream_deadline_ms=30_000)
    complaints: list[str] = []
    page = await open_page(server.url, complaints, camera=False)

    async def module(route: Route) -> None:
        name = route.request.url.rpartition("/")[2]
        await route.fulfill(path=package / "dist" / name, content_type="text/javascript")

    async def image(route: Route) -> None:
        await route.fulfill(path=ASTRONAUT, content_type="image/jpeg")

    await page.route("**/package/*.js", module)
    await page.route("**/package/image", image)
    found = await page.evaluate(
        """async () => {
          const { PoseClient } = await import('/package/index.js');
          const client = new PoseClient(location.origin);
          const image = await (await fetch('/package/image')).blob();
          const { images } = await client.pose(image);
          const stream = client.stream();
          const frames = [];
          for await (const { frame, people } of stream.results([image, image, image], { every: true })) frames.push([frame, people.length]);
          stream.close();
          return { people: images[0].people.length, frames };
        }"""
    )
    assert found == {"people": 1, "frames": [[0, 1], [1, 1], [2, 1]]}
    assert complaints == []


def test_the_example_streams_files(project: Path, server: Server) -> None:
    shutil.copy(ROOT / "examples" / "node.mjs", project)
    printed = run(["node", "node.mjs", server.url, str(ASTRONAUT), str(ASTRONAUT)], project).stdout
    lines = [json.loads(line) for line in printed.splitlines()]
    assert [len(line["people"]) for line in lines] == [1, 1]
    assert lines[1]["people"][0]["track_id"] == 1
