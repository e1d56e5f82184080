"""Whatever a file holds, reading it gives frames or an error for a person: no crash, no hang, no full memory."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from Testing.engine.images.hostile_volumes import HOSTILE, SOUND
from Testing.engine.support import engine_environment

SECONDS = 10
MOST_BYTES = 1 << 30

READ = """
import faulthandler, json, sys
from pathlib import Path
from semicardiac.base.errors import UserError
from semicardiac.images.labels import get_label_set
from semicardiac.images.volumes import count_frames, read_labels, read_series, size_and_spacing

try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
except (ImportError, ValueError):
    resource = None


def peak_bytes():
    status = Path("/proc/self/status")
    if status.exists():  # Linux starts ru_maxrss with what the process had that started this one
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if resource else 0
    return peak * (1 if sys.platform == "darwin" else 1024)


labels = get_label_set("acdc")
for path in map(Path, json.load(sys.stdin)):
    faulthandler.dump_traceback_later(int(sys.argv[1]), exit=True)
    said = []
    for work in (read_series, count_frames, size_and_spacing, lambda path: read_labels(path, labels)):
        try:
            work(path)
            said.append("")
        except UserError as error:
            said.append(str(error))
        except Exception as error:
            said.append(f"CRASH {error!r}")
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps([said, peak_bytes()]), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[str], int]]:
    """What reading each volume said (as frames, their number, their size, as labels), and the most memory up to then.

    A process reads them all; where one ends it, another continues with the next.
    """
    paths: dict[str, Path] = {}
    for number, (name, (_, make)) in enumerate(HOSTILE.items()):
        paths[name] = tmp_path_factory.mktemp(f"v{number}") / name
        make(paths[name])
    found: dict[str, tuple[list[str], int]] = {}
    while left := [name for name in HOSTILE if name not in found]:
        done = subprocess.run(
            [sys.executable, "-c", READ, str(SECONDS)],
            input=json.dumps([str(paths[name]) for name in left]),
            env=engine_environment(),
            capture_output=True,
            encoding="utf-8",
            timeout=300,
        )
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        found |= {name: tuple(line) for name, line in zip(left, lines, strict=False)}
        if len(lines) < len(left):
            found[left[len(lines)]] = ([f"CRASH of the process with {done.returncode}: {done.stderr[-300:]}"], 0)
    return found


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_volume(name: str, outcomes: dict[str, tuple[list[str], int]]):
    expected, _ = HOSTILE[name]
    said, peak = outcomes[name]
    assert not any("CRASH" in text for text in said), said
    shown = said[0] if not name.endswith(".seg.nrrd") else said[-1]
    assert re.search(expected, shown) if expected != SOUND else shown == "", shown
    assert peak < MOST_BYTES
