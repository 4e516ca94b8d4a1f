"""A headless Chromium that opens a page as a user does: DevTools' protocol over two pipes.

It needs a Chromium or Chrome and Python alone. https://chromedevtools.github.io/devtools-protocol/

    with open_browser() as browser:
        browser.open(path)
        browser.click("#language")
        assert browser.evaluate("document.title") == "…"
        assert browser.problems == [] and browser.loaded == []
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), "") if fcntl else ""
PATIENCE = 60  # seconds; the machine may be busy
FLAGS = (
    "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-extensions", "--hide-scrollbars", "--force-color-profile=srgb", "about:blank",
)  # fmt: skip
# Of DevTools' protocol, where a key is more than the letter it types.
KEYS = {
    "Tab": 9,
    "Enter": 13,
    "Escape": 27,
    " ": 32,
    "End": 35,
    "Home": 36,
    "ArrowUp": 38,
    "ArrowDown": 40,
}
TYPED = {"Enter": "\r", " ": " "}

needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no Chromium or Chrome is installed")


class Browser:
    """A window of Chromium."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader, self._writer = reader, writer
        self._numbers = itertools.count(1)
        self._rest = b""
        self._session = ""
        self.problems: list[str] = []  # errors and warnings of the console, and of scripts
        self.requests: list[str] = []  # addresses other than data: and blob:
        self._events: list[str] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(info["targetId"] for info in targets if info["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    # The page

    def open(self, page: Path | str) -> None:
        """Open a file or an address, and wait until its scripts have run."""
        self._events.clear()
        address = page.absolute().as_uri() if isinstance(page, Path) else page
        self.call("Page.navigate", url=address)
        end = time.monotonic() + PATIENCE
        while "Page.loadEventFired" not in self._events:
            self._receive(end)
        self._settle()

    @property
    def loaded(self) -> list[str]:
        """What was loaded besides the files that were opened."""
        return [address for address in self.requests if not address.startswith("file:")]

    def evaluate(self, code: str) -> Any:
        """Return the value of an expression in the page; wait for a promise."""
        done = self.call(
            "Runtime.evaluate",
            expression=code,
            returnByValue=True,
            awaitPromise=True,
            userGesture=True,
        )
        if failure := done.get("exceptionDetails"):
            raise AssertionError(failure.get("exception", {}).get("description", failure["text"]))
        return done["result"].get("value")

    def texts(self, selector: str) -> list[str]:
        """Return the text, as shown, of the elements that a selector finds."""
        return self.evaluate(
            f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.innerText)"
        )

    def text(self, selector: str) -> str:
        """Return the text, as shown, of the first element that a selector finds."""
        return self.texts(selector)[0]

    def count(self, selector: str) -> int:
        """Return how many elements a selector finds."""
        return self.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length")

    def wait_for(self, code: str) -> None:
        """Wait until an expression is true in the page."""
        end = time.monotonic() + PATIENCE
        while not self.evaluate(code):
            assert time.monotonic() < end, f"it never came true: {code}"
            time.sleep(0.02)

    # Its user

    def click(self, selector: str) -> None:
        """Click with the mouse into the middle of an element, which must not be covered."""
        self.evaluate(
            f"document.querySelector({json.dumps(selector)})"
            f".scrollIntoView({{ block: 'center', behavior: 'instant' }})"
        )
        self._settle()
        place = self.evaluate(f"""(() => {{
            const element = document.querySelector({json.dumps(selector)});
            const box = element.getBoundingClientRect();
            const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
            const hit = document.elementFromPoint(x, y);
            return {{ x, y, isHit: element.contains(hit) || hit?.contains(element) }};
        }})()""")
        assert place.pop("isHit"), f"{selector} is covered by another element"
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)
        self._settle()

    def focus(self, selector: str) -> None:
        """Move the focus to an element."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")

    def press(self, *keys: str) -> None:
        """Press keys one after another: letters, or names such as Tab and ArrowDown."""
        for key in keys:
            text = {"text": TYPED.get(key, key)} if key in TYPED or len(key) == 1 else {}
            code = {"windowsVirtualKeyCode": KEYS[key], "code": key} if key in KEYS else {}
            down = "keyDown" if text else "rawKeyDown"
            self.call("Input.dispatchKeyEvent", type=down, key=key, **code, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key, **code)
        self._settle()

    def type(self, text: str) -> None:
        """Type a text, of any letters, where the focus is."""
        self.call("Input.insertText", text=text)
        self._settle()

    def choose(self, selector: str, value: str) -> None:
        """Choose an option of a <select>, as a user does."""
        self.evaluate(f"""(() => {{
            const element = document.querySelector({json.dumps(selector)});
            element.value = {json.dumps(value)};
            element.dispatchEvent(new Event("input", {{ bubbles: true }}));
            element.dispatchEvent(new Event("change", {{ bubbles: true }}));
        }})()""")
        self._settle()

    # Its window

    def resize(self, width: int, height: int = 900, scale: float = 1) -> None:
        """Set the size of the window, in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale}
        self.call("Emulation.setDeviceMetricsOverride", mobile=False, **size)
        self._settle()

    def set_system(self, scheme: str = "light", media: str = "") -> None:
        """Set the colours that the system prefers, "light" or "dark"; `media`: "print"."""
        values = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in values.items()]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)
        self._settle()

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than the window."""
        return self.evaluate("document.documentElement.scrollWidth - window.innerWidth")

    def screenshot(self, path: Path, is_whole: bool = False) -> None:
        """Save a PNG of the window, or of the whole page."""
        options: dict[str, Any] = {"format": "png", "captureBeyondViewport": is_whole}
        if is_whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            options["clip"] = {**size, "scale": 1}
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", **options)["data"]))

    # The protocol

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """Call a method of DevTools' protocol, and return its result."""
        number = next(self._numbers)
        message: dict[str, object] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        content = json.dumps(message).encode() + b"\0"
        while content:
            content = content[os.write(self._writer, content) :]
        end = time.monotonic() + PATIENCE
        while True:
            answer = self._receive(end)
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _settle(self) -> None:
        """Wait until the page has been drawn twice, so that its observers have run."""
        frame = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        self.evaluate(f"{frame}.then(() => null)")

    def _receive(self, end: float) -> dict[str, Any]:
        """Return the next message, after noting what it says of the page."""
        while b"\0" not in self._rest:
            left = max(0.0, end - time.monotonic())
            if not select.select([self._reader], [], [], left)[0]:
                raise TimeoutError("Chromium does not answer")
            part = os.read(self._reader, 1 << 20)
            if not part:
                raise EOFError("Chromium has ended")
            self._rest += part
        content, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(content)
        if "method" in message:
            self._note(message["method"], message.get("params", {}))
        return message

    def _note(self, method: str, params: dict[str, Any]) -> None:
        self._events.append(method)
        if method == "Network.requestWillBeSent":
            address = params["request"]["url"]
            if not address.startswith(("data:", "blob:", "about:")):
                self.requests.append(address)
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.problems.append(str([part.get("value") for part in params["args"]]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(params["entry"]["text"])


@contextmanager
def open_browser(language: str = "en-US") -> Iterator[Browser]:
    """Start a Chromium with an empty profile, and end it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process, reader, writer = _start(profile, language)
        try:
            yield Browser(reader, writer)
        finally:
            os.close(writer)
            os.close(reader)
            with suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)


def _start(profile: str, language: str) -> tuple[int, int, int]:
    """Start Chromium. Return its process, and the pipes from which and to which it speaks.

    It takes its commands from file 3 and answers into file 4.
    """
    pipes = [*os.pipe(), *os.pipe()]
    # Above those two numbers, so that neither is overwritten before it is copied.
    theirs_in, ours_out, ours_in, theirs_out = (
        fcntl.fcntl(pipe, fcntl.F_DUPFD_CLOEXEC, 10) for pipe in pipes
    )
    for pipe in pipes:
        os.close(pipe)
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    actions = [
        (os.POSIX_SPAWN_DUP2, source, target)
        for source, target in ((nothing, 1), (nothing, 2), (theirs_in, 3), (theirs_out, 4))
    ]
    words = [CHROMIUM, f"--user-data-dir={profile}", f"--lang={language}", *FLAGS]
    process = os.posix_spawn(CHROMIUM, words, os.environ, file_actions=actions, setpgroup=0)
    for file in (theirs_in, theirs_out, nothing):
        os.close(file)
    return process, ours_in, ours_out
