"""What checks find, and how what they find alike in several cases is told once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from ..base.errors import UserError
from ..base.text import listed

Level = Literal["error", "warning"]

EVERYWHERE = "cases"
"""Where something is that is of no single case."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (`error`: it must be fixed first) or that one should know (`warning`)."""

    level: Level
    what: str
    where: str
    hint: str = ""
    case: str = field(default="", compare=False)
    """Its name, if it is found in one case: then `grouped` may tell it together with those of others."""

    def __str__(self) -> str:
        if self.level == "error":
            return f"error: {UserError(self.what, where=self.where, hint=self.hint)}"
        place = "" if self.where == EVERYWHERE else f" ({self.where})"
        return f"warning: {UserError(self.what + place, hint=self.hint)}"


def grouped(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first; what is the same in several cases is one finding, with three of their names and a count."""
    alike: dict[tuple[str, ...], list[Finding]] = defaultdict(list)
    for number, finding in enumerate(findings):
        alike[(finding.level, finding.what, finding.hint) if finding.case else (str(number),)].append(finding)
    told: list[Finding] = []
    for same in alike.values():
        names = list(dict.fromkeys(finding.case for finding in same))
        told += same if len(names) == 1 else [replace(same[0], where=_where(same[0], names), case="")]
    return sorted(told, key=lambda finding: finding.level != "error")


def _where(first: Finding, names: list[str]) -> str:
    """Of an error, one file in full too: where it was looked for may be what is wrong."""
    return listed(names, 3) if first.level == "warning" else f"{first.where}, and so in {listed(names[1:], 3)}"
