"""A store for the tests that cannot rename, and in which a file that is being written can be seen: a part of it after kill -9."""

import shutil
from pathlib import Path
from typing import Any

import fsspec
from fsspec import AbstractFileSystem

_PIECE = 3000  # bytes


class HalfStore(AbstractFileSystem):  # type: ignore[misc] # fsspec has no types
    """`halves:///folder`: files of this machine, written piece by piece under their own name."""

    protocol = "halves"
    root_marker = "/"
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + str(path).removeprefix("halves://").strip("/")

    def unstrip_protocol(self, name: str) -> str:
        return f"halves://{name}"

    def ls(self, path: str, detail: bool = True, **_: object) -> list[Any]:
        path = self._strip_protocol(path)
        there = Path(path)
        if not there.exists():
            raise FileNotFoundError(path)
        found = [self.info(str(one)) for one in sorted(there.iterdir())] if there.is_dir() else [self.info(path)]
        return found if detail else [one["name"] for one in found]

    def info(self, path: str, **_: object) -> dict[str, Any]:
        path = self._strip_protocol(path)
        stat = Path(path).stat()
        return {"name": path, "size": stat.st_size, "type": "directory" if Path(path).is_dir() else "file"}

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        Path(self._strip_protocol(path)).mkdir(parents=True, exist_ok=exist_ok)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: object) -> None:
        target = Path(self._strip_protocol(path))
        target.open("wb").close()
        for at in range(0, len(value), _PIECE):
            with target.open("ab") as file:
                file.write(value[at : at + _PIECE])

    def put_file(self, lpath: str, rpath: str, **_: object) -> None:
        self.pipe_file(rpath, Path(lpath).read_bytes())

    def rm_file(self, path: str) -> None:
        Path(self._strip_protocol(path)).unlink()

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        shutil.rmtree(self._strip_protocol(path))

    def mv(self, path1: str, path2: str, **_: object) -> None:
        raise NotImplementedError("this store cannot rename")

    def _open(self, path: str, mode: str = "rb", **_: object) -> Any:
        assert mode == "rb", "files are written by `pipe_file`"
        return Path(self._strip_protocol(path)).open("rb")


fsspec.register_implementation("halves", HalfStore, clobber=True)
