"""How long a start takes."""

from __future__ import annotations

import subprocess
import sys

from .timing import Measured, Setting

CODE = {
    "import_s": "import semicardiac",
    "help_s": "from semicardiac.cli import main; main(['--help'])",
}


def measure(setting: Setting) -> dict[str, Measured]:
    """Processor time of a process from its beginning, with that of Python itself, in turn."""
    times: dict[str, list[float]] = {name: [] for name in CODE}
    for number in range(setting.rounds + 1):
        for name, code in CODE.items():
            seconds = _processor_time(code)
            if number:  # the first one reads from the disk
                times[name].append(seconds)
    return {name: Measured(values) for name, values in times.items()}


def _processor_time(code: str) -> float:
    code += "; import sys, time; print(time.process_time(), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    return float(done.stderr.split()[-1])
