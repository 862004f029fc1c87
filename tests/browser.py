"""A page in headless Chromium, with real keys. It is driven over a pipe by the DevTools protocol, which needs no other package."""

import itertools
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CODES = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}
TYPED = {"Enter": "\r", " ": " "}


class Page:
    """A page that is open: what a script says of it, and keys that are pressed in it."""

    def __init__(self, commands: int, answers: int):
        self._commands, self._answers = commands, os.fdopen(answers, "rb")
        self._ids, self._session = itertools.count(1), None
        (target,) = (one for one in self._call("Target.getTargets")["targetInfos"] if one["type"] == "page")
        self._session = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]

    def script(self, text: str):
        """The value of ``text``, JavaScript that may be a promise. Raises RuntimeError if it throws."""
        answer = self._call("Runtime.evaluate", expression=text, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def press(self, *keys: str) -> None:
        """Press the keys one after the other, as a keyboard does; "Shift+Tab" is one of them."""
        for name in keys:
            key = name.removeprefix("Shift+")
            event = {"key": key, "windowsVirtualKeyCode": CODES[key], "modifiers": 8 if key != name else 0}
            self._call("Input.dispatchKeyEvent", type="keyDown", **event, **({"text": TYPED[key]} if key in TYPED else {}))
            self._call("Input.dispatchKeyEvent", type="keyUp", **event)

    def open(self, address: str) -> None:
        """Go to ``address`` and wait until it is loaded."""
        self._call("Page.navigate", url=address)
        while self.script("location.href + document.readyState") != address + "complete":
            time.sleep(0.05)

    def _call(self, method: str, **parameters) -> dict:
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != number:
            pass  # an event
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]

    def _read(self) -> dict:
        letters = bytearray()
        while (letter := self._answers.read(1)) != b"\0":
            if not letter:
                raise EOFError("Chromium has ended")
            letters += letter
        return json.loads(letters)


@contextmanager
def browsing(chromium: str, folder: Path) -> Iterator[Page]:
    """An empty page in Chromium without a network, whose profile is in ``folder``."""
    theirs_in, commands = os.pipe()
    answers, theirs_out = os.pipe()
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--proxy-server=127.0.0.1:9"]
    words += ["--remote-debugging-pipe", f"--user-data-dir={folder}/profile", "about:blank"]
    # Chromium reads commands from descriptor 3 and writes answers to 4
    shell = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
    running = subprocess.Popen(
        ["bash", "-c", shell, "bash", chromium, *words],
        pass_fds=(theirs_in, theirs_out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"HOME": str(folder)},
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        page = Page(commands, answers)
        yield page
        page._answers.close()
    finally:
        os.close(commands)
        running.terminate()
        running.wait()
