"""A small server that plays the Hugging Face Hub for the calls that huggingface_hub makes, with a list of faults to play."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".pt")  # go by way of LFS, as on the hub


@dataclass
class FakeHub:
    """What the server holds and saw.

    `faults` are statuses that the next uploads answer with, one each; `status` is one that everything answers with. The files of the
    repositories in `gated` are refused until somebody accepts their terms.
    """

    address: str = ""
    token: str = "hf_right"
    repositories: dict[str, dict[str, Any]] = field(default_factory=dict)  # "models/me/x" -> {"private": …, "files": {path: bytes}}
    requests: list[str] = field(default_factory=list)
    faults: list[int] = field(default_factory=list)
    status: int = 200
    gated: set[str] = field(default_factory=set)
    stored: dict[str, bytes] = field(default_factory=dict)  # LFS objects by SHA-256

    def files(self, name: str) -> dict[str, bytes]:
        return self.repositories[name]["files"]

    def add(self, name: str, files: dict[str, bytes], private: bool = True) -> None:
        self.repositories[name] = {"private": private, "files": dict(files)}


def let_in(patch: Any, folder: Path, hub: FakeHub) -> None:
    """Let huggingface_hub through to `hub`, although tests are offline, with a cache of its own in `folder`."""
    import huggingface_hub.constants as constants

    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))
    patch.setattr(constants, "ENDPOINT", hub.address)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setenv("HF_ENDPOINT", hub.address)


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A running hub on this machine."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_HEAD = do_GET

    def _serve(self) -> None:
        url = urlsplit(self.path)
        parts = unquote(url.path).strip("/").split("/")
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append(f"{self.command} {url.path}")
        if self.hub.status != 200:
            return self._json({"error": "the hub does not want to"}, self.hub.status)
        if parts[0] != "lfs" and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self._json({"error": "Invalid username or password."}, 401)
        if parts[0] == "lfs":
            self.hub.stored[parts[1]] = content
            return self._json({})
        if parts[:3] == ["api", "repos", "create"]:
            return self._create(json.loads(content))
        if parts[-4:] == ["info", "lfs", "objects", "batch"]:
            return self._batch(json.loads(content))
        if parts[0] == "api":
            return self._repository(parts[1:], parse_qs(url.query), content)
        return self._resolve(parts)

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked.get('type') or 'model'}s/{asked['organization']}/{asked['name']}"
        self.hub.add(name, {}, private=bool(asked.get("private")) or asked.get("visibility") == "private")
        self._json({"url": f"{self.hub.address}/{asked['organization']}/{asked['name']}"})

    def _repository(self, parts: list[str], query: dict[str, list[str]], content: bytes) -> None:
        name, rest = "/".join(parts[:3]), parts[3:]
        found = self.hub.repositories.get(name)
        if found is None:
            return self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        if rest[:1] == ["preupload"]:
            if self.hub.faults:
                return self._json({"error": "the hub is tired"}, self.hub.faults.pop(0))
            files = [
                {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular", "shouldIgnore": False}
                for file in json.loads(content)["files"]
            ]
            return self._json({"files": files})
        if rest[:1] == ["commit"]:
            for line in content.splitlines():
                self._commit(found["files"], json.loads(line))
            url = f"{self.hub.address}/{'/'.join(parts[1:3])}/commit/{COMMIT}"
            return self._json({"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""})
        if rest[:1] == ["tree"]:
            return self._json([self._entry(path, data) for path, data in found["files"].items()])
        siblings = [{"rfilename": path} for path in found["files"]]
        self._json({"id": "/".join(parts[1:3]), "private": found["private"], "sha": COMMIT, "siblings": siblings})

    def _commit(self, files: dict[str, bytes], line: dict[str, Any]) -> None:
        value = line["value"]
        if line["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            files[value["path"]] = self.hub.stored[value["oid"]]

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = [
            {"oid": item["oid"], "size": item["size"], "actions": {"upload": {"href": f"{self.hub.address}/lfs/{item['oid']}"}}}
            for item in asked["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _resolve(self, parts: list[str]) -> None:
        place = parts.index("resolve")
        kind = "models" if place == 2 else parts[0]
        name, path = f"{kind}/{'/'.join(parts[place - 2 : place])}", "/".join(parts[place + 2 :])
        if name in self.hub.gated:
            return self._json({"error": "Access is restricted"}, 403, {"X-Error-Code": "GatedRepo"})
        data = self.hub.repositories.get(name, {"files": {}})["files"].get(path)
        if data is None:
            return self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        self._answer(200, data, {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT})

    def _entry(self, path: str, data: bytes) -> dict[str, Any]:
        return {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._answer(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
