"""A real terminal, in which a program runs, keys are typed and the screen is looked at: tmux, with a server of its own.

with Screen("mcext top", width=100, height=30) as screen:
    screen.wait_for("SERVER")
    screen.type("q")
"""

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

PATIENCE = 30  # seconds until something must be there to be seen


class Screen:
    """command: for the shell, which says `status N` when it has ended, and then reads more commands."""

    def __init__(self, command, width=100, height=30, environment=None):
        self._folder = tempfile.mkdtemp(prefix="mcext-")
        self._size = ["-x", str(width), "-y", str(height)]
        self._command = command
        self._environment = {**environment, "LC_ALL": "C.UTF-8", "PS1": "$ ", "SHELL": "/bin/sh"}
        for name in ("TMUX", "COLUMNS", "LINES"):
            self._environment.pop(name, None)

    def __enter__(self):
        # The window is there when the command begins, and stays when it has ended.
        self._tmux("-f", "/dev/null", "-u", "new-session", "-d", *self._size, "bash --norc --noprofile")
        self.wait_for("$")
        self.type(self._command + "; echo status $?", "Enter")
        return self

    def __exit__(self, *unused):
        self._tmux("kill-server")
        shutil.rmtree(self._folder)

    def type(self, *keys):
        """Text, or keys by tmux's names of them: Enter, C-c."""
        self._tmux("send-keys", *keys)

    def resize(self, width, height):
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    @property
    def lines(self):
        """What the screen shows, without the blanks at the ends of lines and of the screen."""
        shown = self._tmux("capture-pane", "-p", "-J").stdout.decode()
        return [line.rstrip() for line in shown.rstrip().splitlines()]

    @property
    def text(self):
        return "\n".join(self.lines)

    @property
    def shows_cursor(self):
        return self._told("cursor_flag") == "1"

    @property
    def is_alternate(self):
        """Whether a program has the whole screen, and what was there comes back when it leaves."""
        return self._told("alternate_on") == "1"

    @property
    def program(self):
        """The process id of what runs in the shell."""
        pid = int(self._told("pane_pid"))
        while started := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            pid = int(started[0])
        return pid

    @property
    def title(self):
        return self._told("pane_title")

    def wait_for(self, wanted):
        """Until the screen shows a text, or a condition of the screen is true. Returns the screen's text, in which that
        text is; it may have been drawn in part."""
        until = time.monotonic() + PATIENCE
        while True:
            text = self.text
            if wanted(self) if callable(wanted) else wanted in text:
                return self.text if callable(wanted) else text
            assert time.monotonic() < until, f"not on the screen: {wanted}\n{text}"
            time.sleep(0.02)

    def _told(self, name):
        return self._tmux("display-message", "-p", f"#{{{name}}}").stdout.decode().strip()

    def _tmux(self, *words):
        command = ["tmux", "-S", f"{self._folder}/socket", *words]
        return subprocess.run(command, env=self._environment, check=True, capture_output=True, timeout=PATIENCE)
