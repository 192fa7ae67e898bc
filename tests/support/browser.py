"""A headless Chromium, driven by the DevTools protocol over a pipe."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_HIGH = 20  # file descriptors that do not collide with those of the protocol, 3 and 4


class Browser:
    """A page of a browser.

    Attributes:
        requests: the addresses that pages asked for, without data URIs.
        complaints: errors and warnings of the console, and exceptions of scripts.
    """

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._out = os.fdopen(to_browser, "wb")
        self._in = os.fdopen(from_browser, "rb")
        self._last = 0
        self._session: str | None = None
        self._left = b""
        self._events: list[str] = []
        self.requests: list[str] = []
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """The result of a method of the protocol."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": arguments}
        if self._session is not None:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        self._out.flush()
        while (answer := self._read()).get("id") != self._last:
            self._note(answer)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def open(self, page: Path | str) -> None:
        """Opens a file or an address and waits until it is loaded."""
        self._events.clear()
        url = page if isinstance(page, str) else page.absolute().as_uri()
        self.call("Page.navigate", url=url)
        while "Page.loadEventFired" not in self._events:
            self._note(self._read())

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, expression: str, seconds: float = 60) -> Any:
        """The value of a JavaScript expression as soon as it is true."""
        end = time.monotonic() + seconds
        while not (found := self.value(expression)):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.1)
        return found

    def write(self, selector: str, text: str) -> None:
        """Writes text into a field."""
        self.until(f"document.querySelector({selector!r}) !== null")
        self.value(f"document.querySelector({selector!r}).focus()")
        self.call("Input.insertText", text=text)

    def click(self, expression: str) -> None:
        """Clicks with the mouse in the middle of the element that a JavaScript expression finds."""
        self.until(f"Boolean({expression})")
        self.value(f"({expression}).scrollIntoView({{block: 'nearest'}})")
        middle = (
            f"(() => {{ const box = ({expression}).getBoundingClientRect(); "
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        box = None
        while (now := self.value(middle)) != box:  # a menu that opens moves
            box = now
            time.sleep(0.2)
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left",
                clickCount=1,
            )  # fmt: skip

    def press(self, key: str, code: int) -> None:
        """Presses and releases a key."""
        of = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **of, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **of)

    def resize(self, width: int, height: int, *, is_dark: bool = False) -> None:
        """Sets the size of the window and the colour scheme that its user prefers."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self) -> bytes:
        """The window as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            part = os.read(self._in.fileno(), 1 << 16)
            assert part, "the browser ended"
            self._left += part
        message, _, self._left = self._left.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        name, of = event.get("method", ""), event.get("params", {})
        self._events.append(name)
        if name == "Network.requestWillBeSent" and not of["request"]["url"].startswith("data:"):
            self.requests.append(of["request"]["url"])
        if name in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.complaints.append(json.dumps(of))

    def close(self) -> None:
        self._out.close()
        self._in.close()


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser that starts with an empty profile, and ends with the block."""
    assert CHROMIUM is not None
    ends = []
    for _ in range(2):
        ends += [_raised(end) for end in os.pipe()]
    read_by_it, written_by_us, read_by_us, written_by_it = ends
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"--user-data-dir={profile}", "--remote-debugging-pipe",
    ]  # fmt: skip
    shell = f'exec "$@" 3<&{read_by_it} 4>&{written_by_it}'
    with subprocess.Popen(
        ["bash", "-c", shell, "bash", CHROMIUM, *options],
        pass_fds=(read_by_it, written_by_it), stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        os.close(read_by_it)
        os.close(written_by_it)
        page = Browser(written_by_us, read_by_us)
        try:
            yield page
        finally:
            page.close()
            process.terminate()


def _raised(end: int) -> int:
    """A file descriptor with a high number."""
    high = fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    os.close(end)
    return high
