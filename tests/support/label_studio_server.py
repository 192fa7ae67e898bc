"""A Label Studio server in a process of its own, with an empty database, and its API.

It sends no statistics, asks no one for a newer version, and finds nothing but this machine.
"""

import http.cookiejar
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

USER, PASSWORD = "first@example.com", "a-password-1"
_TOKEN = "0123456789abcdef0123456789abcdef01234567"
_LINE = "between-the-parts-of-a-form"
_SECONDS = 600  # to make a database and start, on a busy machine
_ALONE = {
    "COLLECT_ANALYTICS": "false",
    "LATEST_VERSION_CHECK": "false",
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
    "HTTP_PROXY": "http://127.0.0.1:9",  # where nobody listens
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1,localhost",
    "http_proxy": "",
    "https_proxy": "",
    # Else a server refuses backends and webhooks on its own machine.
    "ML_BLOCK_LOCAL_IP": "false",
    "SSRF_PROTECTION_ENABLED": "false",
}


class Refused(Exception):
    """An answer that is no success: its status and its text."""


class Annotator:
    """A user of a server, who asks by token."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._token = token

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The answer of the API, from JSON. Raises Refused."""
        content = None if body is None else json.dumps(body).encode()
        return self._ask(method, path, content, "application/json")

    def _ask(self, method: str, path: str, content: bytes | None, kind: str) -> Any:
        headers = {"Authorization": f"Token {self._token}", "Content-Type": kind}
        request = urllib.request.Request(self.url + path, content, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(error.code, error.read().decode()) from None

    def project(self, config: str, title: str = "a project", **options: Any) -> int:
        """The number of a new project."""
        return self.call(
            "POST", "/api/projects/", {"title": title, "label_config": config, **options}
        )["id"]

    def import_tasks(self, project: int, tasks: Any) -> dict[str, Any]:
        """Imports tasks; the server's counts."""
        return self.call("POST", f"/api/projects/{project}/import", tasks)

    def import_file(self, project: int, path: Path) -> dict[str, Any]:
        """Imports a file of tasks as the page for imports does; the server's counts."""
        part = f'Content-Disposition: form-data; name="file"; filename="{path.name}"'
        content = f"--{_LINE}\r\n{part}\r\n\r\n".encode() + path.read_bytes()
        content += f"\r\n--{_LINE}--\r\n".encode()
        kind = f"multipart/form-data; boundary={_LINE}"
        return self._ask("POST", f"/api/projects/{project}/import", content, kind)

    def tasks(self, project: int, order: str = "tasks:id") -> list[dict[str, Any]]:
        """The tasks of a project, as the Data Manager sorts them by a column, or `-` and one."""
        query = urllib.parse.quote(json.dumps({"ordering": [order]}))
        path = f"/api/tasks?project={project}&fields=all&page_size=1000&query={query}"
        return self.call("GET", path)["tasks"]

    def next_task(self, project: int) -> dict[str, Any] | None:
        """What this user is to label next; None if nothing is left."""
        try:
            return self.call("GET", f"/api/projects/{project}/next/")
        except Refused as error:
            if error.args[0] == 404:
                return None
            raise

    def annotate(self, task: int, result: Any) -> dict[str, Any]:
        """Submits an annotation."""
        return self.call("POST", f"/api/tasks/{task}/annotations/", {"result": result})

    def export(self, project: int) -> list[dict[str, Any]]:
        """What the export as JSON holds."""
        return self.call("GET", f"/api/projects/{project}/export?exportType=JSON")

    def second(self, email: str = "second@example.com") -> "Annotator":
        """A user who signs up with the link that invites to the organization of this one."""
        link = self.url + self.call("GET", "/api/invite")["invite_url"].removeprefix(self.url)
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        page = urllib.request.build_opener(cookies)
        page.addheaders = [("Referer", self.url)]
        with page.open(link) as answer:
            form = answer.read().decode()
        (secret,) = set(re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', form))
        fields = {"csrfmiddlewaretoken": secret, "email": email, "password": PASSWORD}
        page.open(link, urllib.parse.urlencode(fields).encode()).close()
        with page.open(f"{self.url}/api/current-user/token") as answer:
            return Annotator(self.url, json.loads(answer.read())["token"])


@contextmanager
def label_studio(folder: Path) -> Iterator[Annotator]:
    """A server that ends with the block: its first user, whose password is PASSWORD.

    Args:
        folder: an empty one, for its database and its log.
    """
    with held_port() as port, _started(folder, port) as annotator:
        yield annotator


@contextmanager
def held_port() -> Iterator[int]:
    """A free port that no other process is given within the block, while a server may listen at it.

    A server may bind a port twice that nobody listens at, if both sockets allow it.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@contextmanager
def _started(folder: Path, port: int) -> Iterator[Annotator]:
    url = f"http://127.0.0.1:{port}"
    options = [
        "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port),
        "--host", url, "--username", USER, "--password", PASSWORD, "--user-token", _TOKEN,
        "--enable-legacy-api-token",
    ]  # fmt: skip
    command = [str(Path(sys.executable).with_name("label-studio")), *options]
    variables = {**os.environ, **_ALONE, "LABEL_STUDIO_BASE_DATA_DIR": str(folder)}
    log = folder / "log.txt"
    with (
        log.open("wb") as out,
        subprocess.Popen(command, stdout=out, stderr=out, env=variables) as process,
    ):
        try:
            _wait(f"{url}/health", process, log)
            yield Annotator(url, _TOKEN)
        finally:
            process.terminate()


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Waits until the server answers."""
    end = time.monotonic() + _SECONDS
    while not _answers(url):
        text = log.read_text(errors="replace")
        assert process.poll() is None and time.monotonic() < end, text
        time.sleep(0.2)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10):
            return True
    except OSError:
        return False
