"""The command line `semicardiac`."""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from typing import Annotated, Any, Union

import tyro
from tyro.conf import DisallowNone, FlagCreatePairsOff, subcommand

from .. import __version__
from ..base.errors import UserError, nearest
from ..base.explain import explain, fault_of_ours
from ..base.ranks import current_rank
from ..base.streams import standard_streams
from .commands import COMMANDS
from .results import Run

DESCRIPTION = """Cardiac segmentation from few labeled and many unlabeled volumes.

Examples:
  semicardiac demo
  semicardiac check data/acdc
  semicardiac train data/acdc --out runs/first --split p70 --labeled 7 --minutes 10
  semicardiac segment runs/first scan.nii.gz --out results
  semicardiac report runs/first

For research; not for clinical use. Data never leave this computer."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        The exit status: 0 done, 2 the user can fix it, 1 our fault, 130 stopped.
    """
    with standard_streams():
        return _run(sys.argv[1:] if arguments is None else arguments)


def _run(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        print(f"semicardiac {__version__}")
        return 0
    try:
        command = parse_arguments(arguments)
        if current_rank().count > 1 and not isinstance(command, Run):
            hint = "Make it first, with --job-only, then: torchrun ... -m semicardiac run JOB"
            raise UserError("several processes can only run a job that is there", where="torchrun", hint=hint)
        status: int = command.run()
        return status
    except KeyboardInterrupt:
        return 130
    except SystemExit as exit_request:  # --help
        return int(exit_request.code or 0)
    except Exception as error:
        explained = explain(error)
        if explained is not None:
            print(f"error: {explained}", file=sys.stderr)
            return 2
        print(f"error: {fault_of_ours(error, _write_crash_report(error))}", file=sys.stderr)
        return 1


def _write_crash_report(error: Exception) -> str:
    """Where the report is: no job folder is at hand, so it is a temporary file that is this user's alone."""
    from ..jobs.crash import crash_report

    try:
        descriptor, path = tempfile.mkstemp(prefix="semicardiac-crash-", suffix=".txt")
        with open(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(crash_report(error))
    except OSError:  # a full disk
        return ""
    return path


def parse_arguments(arguments: list[str]) -> Any:
    """The command that the arguments ask for.

    Raises:
        UserError: If they cannot be understood, as one line.
        SystemExit: After `--help`.
    """
    name = arguments[0] if arguments else "--help"
    if name in COMMANDS:
        command, arguments, prog = COMMANDS[name], arguments[1:], f"semicardiac {name}"
        description = f"{command.__doc__}\n\nExamples:{command.EXAMPLES}"
    elif not name.startswith("-"):
        raise UserError(f"there is no command '{name}'", where="semicardiac", hint=nearest(name, COMMANDS))
    else:
        command = Union[tuple(Annotated[kind, subcommand(word)] for word, kind in COMMANDS.items())]  # noqa: UP007
        arguments, prog, description = arguments or ["--help"], "semicardiac", DESCRIPTION
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            markers = (FlagCreatePairsOff, DisallowNone)
            return tyro.cli(command, prog=prog, description=description, args=arguments, config=markers)
    except SystemExit as exit_request:
        if not exit_request.code:
            raise
        raise UserError(_one_line(complaint.getvalue()), hint=f"{prog} --help shows what there is") from None


def _one_line(box: str) -> str:
    """The first paragraph and the nearest known option of the box that tyro draws around a complaint."""
    lines = [line.strip("│╭╮╰╯─ ") for line in box.splitlines()[1:]]
    text = "\n".join(line if line.strip("-") else "" for line in lines)  # rules are dashes where there is no UTF-8
    what = text.strip().partition("\n\n")[0].replace("\n", " ").rstrip(".")
    if "Perhaps you meant:" in lines:
        option = lines[lines.index("Perhaps you meant:") + 1].split()[0]
        what += f"; did you mean {option}"
    return what[:1].lower() + what[1:]
