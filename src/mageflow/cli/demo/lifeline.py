"""Run a command that ends when whoever wanted it does. A script that imports nothing of mageflow's, to begin at once.

    python lifeline.py SECONDS COMMAND... --lifeline FILE

FILE is the number of an open file that ends with the process that wants the command, however that happens. Then, and at
SIGTERM, the command is told by SIGTERM; what is left of it and of its own processes after SECONDS is killed.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from typing import NoReturn

_LOOK_EVERY = 0.1


def main() -> NoReturn:
    """Run it.

    Raises:
        SystemExit: always, with the command's exit code.
    """
    patience, *command, _, lifeline = sys.argv[1:]
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    running = subprocess.Popen(command)  # noqa: S603 - the demo's own
    while running.poll() is None and not told:
        if select.select([int(lifeline)], [], [], _LOOK_EVERY)[0]:
            told.append(signal.SIGTERM)
    if running.returncode is None:
        running.terminate()
        try:
            running.wait(float(patience))
        except subprocess.TimeoutExpired:
            os.killpg(0, signal.SIGKILL)  # whoever started this gave it a group of its own
    code: int = running.wait()
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
