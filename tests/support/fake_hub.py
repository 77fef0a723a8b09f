"""A Hub that runs in a thread: as much of huggingface.co as fetching, pushing and looking up papers needs.

Repositories are dicts of files per commit; branches and tags are names of commits. Faults are set per repository.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

OWNER_TOKEN = "hf_owner"  # may write anywhere under "owner/"
READER_TOKEN = "hf_reader"  # may read what is gated and write nothing

_MODEL = r"(?P<repo>[\w.-]+/[\w.-]+)"


@dataclass
class Repo:
    """A model repository, with its faults."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False
    cut_short: str | None = None  # this file ends halfway, under headers that promise all of it
    facts: dict[str, Any] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Add a commit on top of ``branch``; returns its id."""
        tree = {**self.commits.get(self.refs.get(branch, ""), {}), **files}
        sha = hashlib.sha1(repr(sorted(tree.items())).encode() + str(len(self.commits)).encode()).hexdigest()
        self.commits[sha] = tree
        self.refs[branch] = sha
        return sha

    def resolve(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.refs.get(revision)


class FakeHub:
    """The state of the Hub, and the requests to it."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.papers: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.url = ""

    def add(self, repo_id: str, files: dict[str, bytes], **options: Any) -> Repo:
        repo = self.repos[repo_id] = Repo(**options)
        repo.commit(files)
        return repo


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    """A Hub that listens on a free port of this machine."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._route()

    def do_GET(self) -> None:
        self._route()

    def do_POST(self) -> None:
        self._route()

    def _route(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        routes = {
            ("GET", rf"/api/models/{_MODEL}(/revision/(?P<revision>[^/]+))?"): self._info,
            ("GET", rf"/api/models/{_MODEL}/tree/(?P<revision>[^/]+)"): self._tree,
            ("HEAD", rf"/{_MODEL}/resolve/(?P<revision>[^/]+)/(?P<name>.+)"): self._file,
            ("GET", rf"/{_MODEL}/resolve/(?P<revision>[^/]+)/(?P<name>.+)"): self._file,
            ("GET", r"/api/papers/(?P<paper>[\w.]+)"): self._paper,
            ("POST", r"/api/repos/create"): self._create,
            ("POST", r"/api/validate-yaml"): self._validate,
            ("POST", rf"/api/models/{_MODEL}/preupload/(?P<revision>[^/]+)"): self._preupload,
            ("POST", rf"/api/models/{_MODEL}/commit/(?P<revision>[^/]+)"): self._commit,
        }
        for (method, pattern), action in routes.items():
            if method == self.command and (match := re.fullmatch(pattern, path)):
                action(**{key: value for key, value in match.groupdict().items() if value is not None})
                return
        self._answer(404, {"error": f"the fake Hub has no {self.command} {path}"})

    def _answer(
        self, status: int, content: Any, headers: dict[str, str] | None = None, length: int | None = None
    ) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        if length is not None:
            self.close_connection = True

    @property
    def _token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def _readable(self, repo_id: str, content: bool = True) -> Repo | None:
        """The repository, or None after an error response."""
        repo = self.hub.repos.get(repo_id)
        if repo is None or (repo.private and self._token != OWNER_TOKEN):
            self._answer(
                404 if self._token else 401, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
            )
            return None
        if repo.gated and content and self._token not in (OWNER_TOKEN, READER_TOKEN):
            self._answer(403, {"error": "Access is restricted"}, {"X-Error-Code": "GatedRepo"})
            return None
        return repo

    def _at(self, repo: Repo, revision: str) -> str | None:
        sha = repo.resolve(revision)
        if sha is None:
            self._answer(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        return sha

    def _info(self, repo: str, revision: str = "main") -> None:
        found = self._readable(repo, content=False)
        if found and (sha := self._at(found, revision)):
            siblings = [{"rfilename": name} for name in found.commits[sha]]
            facts = {"id": repo, "modelId": repo, "sha": sha, "private": found.private, "siblings": siblings}
            self._answer(200, {**facts, "gated": "auto" if found.gated else False, **found.facts})

    def _tree(self, repo: str, revision: str) -> None:
        found = self._readable(repo)
        if found and (sha := self._at(found, revision)):
            files = found.commits[sha].items()
            listed = [{"type": "file", "path": name, "size": len(data), "oid": _etag(data)} for name, data in files]
            self._answer(200, listed)

    def _file(self, repo: str, revision: str, name: str) -> None:
        found = self._readable(repo)
        if not found or not (sha := self._at(found, revision)):
            return
        data = found.commits[sha].get(name)
        if data is None:
            self._answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
            return
        headers = {"ETag": f'"{_etag(data)}"', "X-Repo-Commit": sha, "Access-Control-Allow-Origin": "*"}
        if name.endswith(".html"):
            headers["Content-Type"] = "text/plain; charset=utf-8"  # so that no repository's script runs on the Hub
        sent = data[: len(data) // 2] if name == found.cut_short and self.command == "GET" else data
        self._answer(200, sent, headers)

    def _paper(self, paper: str) -> None:
        facts = self.hub.papers.get(paper)
        self._answer(200, facts) if facts else self._answer(404, {"error": "Paper not found"})

    def _create(self) -> None:
        wanted = json.loads(self.body)
        if self._token is None:
            self._answer(401, {"error": "Unauthorized"})
            return
        repo_id = f"{wanted.get('organization') or 'owner'}/{wanted['name']}"
        if not self._may_write(repo_id):
            return
        if repo_id in self.hub.repos:
            self._answer(409, {"error": "exists", "url": f"{self.hub.url}/{repo_id}"})
            return
        self.hub.add(
            repo_id,
            {".gitattributes": b""},
            private=wanted.get("visibility") == "private" or bool(wanted.get("private")),
        )
        self._answer(200, {"url": f"{self.hub.url}/{repo_id}", "id": repo_id, "name": repo_id})

    def _may_write(self, repo_id: str) -> bool:
        if self._token == OWNER_TOKEN and repo_id.startswith("owner/"):
            return True
        self._answer(403, {"error": "Forbidden: this token may not write here"})
        return False

    def _validate(self) -> None:
        self._answer(200, {"errors": [], "warnings": []})

    def _preupload(self, repo: str, revision: str) -> None:
        if self._may_write(repo):
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in json.loads(self.body)["files"]
            ]
            self._answer(200, {"files": files})

    def _commit(self, repo: str, revision: str) -> None:
        if not self._may_write(repo):
            return
        lines = [json.loads(line) for line in self.body.splitlines() if line.strip()]
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
        }
        sha = self.hub.repos[repo].commit(files, revision)
        self._answer(200, {"commitUrl": f"{self.hub.url}/{repo}/commit/{sha}", "commitOid": sha, "success": True})


def _etag(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
