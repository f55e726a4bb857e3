"""A headless Chromium, driven by its DevTools protocol over two pipes, with nothing to install."""

import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

NAMES = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome", "chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run")
# The protocol is spoken on file descriptors 3 (to the browser) and 4 (from it).
ON_3_AND_4 = """
import fcntl, os, sys
to, back = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(to, 3), os.dup2(back, 4), os.execv(sys.argv[3], sys.argv[3:])
"""
KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "Enter": 13, "Tab": 9}
SHIFT = 8


def find_chromium():
    """Path of a Chromium: of CHROMIUM in the environment, or by name; None if there is none."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@dataclass
class Tab:
    """One page; every method waits for the browser's answer."""

    to: int
    back: int
    session: str | None = None
    numbers: itertools.count = field(default_factory=lambda: itertools.count(1))
    held: bytes = b""
    dialogs: list = field(default_factory=list)
    events: list = field(default_factory=list)

    def call(self, method, **params):
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            found = self.read()
            if found.get("method") == "Page.javascriptDialogOpening":
                self.dialogs.append(found["params"])
            if "method" in found:
                self.events.append(found)
            if found.get("id") == number:
                assert "error" not in found, found
                return found["result"]

    def events_of(self, method):
        """What the browser reported by this name, of the domains that are enabled."""
        return [event for event in self.events if event["method"] == method]

    def read(self):
        while b"\0" not in self.held:
            data = os.read(self.back, 1 << 16)
            assert data, "the browser ended"
            self.held += data
        message, _, self.held = self.held.partition(b"\0")
        return json.loads(message)

    def run(self, script):
        """The value of an expression in the page; promises are awaited."""
        found = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, condition, seconds=10):
        """Waits until an expression is true, of a page that may still be loading."""
        script = f"(() => {{ try {{ return Boolean({condition}) }} catch {{ return false }} }})()"
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"{condition} in {self.run('document.body.innerText')}"
            time.sleep(0.02)

    def open(self, address):
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete'")

    def click(self, selector):
        """A click of the mouse in the middle of an element."""
        script = f"document.querySelector({json.dumps(selector)})"
        x, y = self.run(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
            f"(({script}.scrollIntoView({{block: 'nearest'}}), {script}).getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key, modifiers=0):
        """A key of the keyboard, pressed and released."""
        given = {"key": key, "code": key, "modifiers": modifiers}
        given["windowsVirtualKeyCode"] = KEYS.get(key, ord(key[0].upper()))
        text = "\r" if key == "Enter" else key if len(key) == 1 else ""
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **given)
        self.call("Input.dispatchKeyEvent", type="keyUp", **given)

    def screen(self, width, height, *, dark=False):
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def picture(self):
        """PNG bytes of what is on the screen."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])


@contextmanager
def open_tab(browser, folder):
    """A tab of a new browser with its profile in a folder."""
    (from_us, to), (back, to_us) = os.pipe(), os.pipe()
    words = [sys.executable, "-c", ON_3_AND_4, str(from_us), str(to_us), browser, *FLAGS]
    process = subprocess.Popen(
        [*words, f"--user-data-dir={folder}"],
        pass_fds=(from_us, to_us),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(from_us)
    os.close(to_us)
    try:
        tab = Tab(to, back)
        target = tab.call("Target.createTarget", url="about:blank")["targetId"]
        tab.session = tab.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime"):
            tab.call(f"{domain}.enable")
        yield tab
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(to)
        os.close(back)
