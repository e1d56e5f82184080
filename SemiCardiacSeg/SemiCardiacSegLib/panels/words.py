"""How the panel writes numbers, times and stages."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

from ..i18n import tr as _

ICONS = Path(__file__).resolve().parents[2] / "Resources" / "Icons"

DASH = "\N{EN DASH}"


def icon(level: str) -> str:
    """The file of the icon of a state: ready, warning, error, unknown, running, stopped or info."""
    return (ICONS / f"status-{level}.svg").as_posix()


def richText(text: str, level: str = "") -> str:
    """Plain text for a label, with the icon of a state before it."""
    text = escape(text, quote=False).replace("\n", "<br>")
    if not level:
        return text
    picture = f'<img src="{icon(level)}" width="14" height="14">'
    return f'<table cellspacing="0"><tr><td style="padding-right: 5px">{picture}</td><td>{text}</td></tr></table>'


def duration(seconds: float) -> str:
    """`45 s`, `4 min`, `2 h 5 min`."""
    if seconds < 60:
        return _("{count} s").format(count=round(seconds))
    minutes = round(seconds / 60)
    if minutes < 90:
        return _("{count} min").format(count=minutes)
    return _("{hours} h {minutes} min").format(hours=minutes // 60, minutes=minutes % 60)


def number(value: float | None, digits: int = 0) -> str:
    """A number, or a dash where there is none."""
    return f"{value:,.{digits}f}" if value is not None and math.isfinite(value) else DASH


def stage(event: dict) -> str:
    """What the engine is doing by a progress event, for a reader who does not know its stages."""
    stages = {
        "checking inputs": _("Checking inputs"),
        "reading volumes": _("Reading volumes"),
        "preparing slices": _("Building the slice bank"),
        "finding the heart": _("Learning to find the heart"),
        "finding the heart better": _("Learning to find the heart better"),
        "supervised": _("Training on the labeled cases"),
        "semi-supervised": _("Training on labeled and unlabeled cases"),
        "validate": _("Validating"),
        "evaluate": _("Measuring"),
        "segmenting": _("Segmenting"),
    }
    text = stages.get(event["stage"], event["stage"])  # another version of the engine may have others
    return text if event.get("seed") is None else _("Seed {number}: {stage}").format(number=event["seed"], stage=text)


def role(name: str) -> str:
    """What a case is for."""
    roles = {
        "labeled": _("labeled"),
        "unlabeled": _("unlabeled"),
        "validation": _("validation"),
        "ignore": _("ignore"),
    }
    return roles[name]


def phase(name: str) -> str:
    """A phase of the heart cycle."""
    return {"ED": _("end-diastole"), "ES": _("end-systole"), "": _("none")}[name]


TRAINING_STAGES = ("supervised", "semi-supervised")


def timeLeft(event: dict) -> str:
    """When a stage will have ended, as far as that is known."""
    return _("{time} left").format(time=duration(event["eta_s"])) if event.get("eta_s") is not None else ""


def progress(event: dict) -> str:
    """A progress event as a sentence."""
    text = stage(event)
    unit = _("step {step} of {total}") if event["stage"] in TRAINING_STAGES else _("{step} of {total}")
    parts = [unit.format(step=number(event["step"]), total=number(event["total"]))]
    if event.get("case"):
        parts.append(event["case"])
    if event.get("gpu_memory_mb"):
        parts.append(_("GPU memory {size} GB").format(size=number(event["gpu_memory_mb"] / 1024, 1)))
    return f"{text}: {', '.join(parts)}"


def dice(event: dict) -> str:
    """A validation event as a line: the mean Dice, and that of each structure."""
    found = [f"{name} {number(value, 2)}" for name, value in event["dice"].items()]
    text = _("Validation Dice {mean}: {structures}")
    return text.format(structures=", ".join(found), mean=number(event.get("mean_dice"), 2))


def failure(told: dict) -> str:
    """What went wrong, where, and what to do, each in a line of its own."""
    lines = [_sentence(told[key]) for key in ("what", "hint") if told.get(key)]
    return "\n".join([*lines, told["where"]] if told.get("where") else lines)


def _inOneLine(what: str, where: str, hint: str) -> str:
    """The same in one line of the log."""
    text = " ".join(map(_sentence, filter(None, (what, hint))))
    return f"{where}: {text}" if where else text


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def logLine(event: dict) -> str | None:
    """An event as a line of the log; None for those that say nothing to a reader."""
    kind = event["event"]
    if kind == "started":
        return _("engine {version}, process {pid}").format(version=event["version"], pid=event["pid"])
    if kind == "device":
        return _("computing on {name} ({device}, {dtype})").format(**event)
    if kind == "validation":
        return dice(event)
    if kind == "warning":
        return _("warning: {text}").format(
            text=_inOneLine(event["warning"], event.get("where", ""), event.get("hint", ""))
        )
    if kind == "error":
        text = _inOneLine(event["what"], event.get("where", ""), event.get("hint", ""))
        return _("error: {text}").format(text=text)
    if kind == "result":
        return _("{kind}: {path}").format(**event)
    if kind == "stopped":
        return _("stopped")
    if kind == "done":
        return _("done in {time}").format(time=duration(event["seconds"]))
    return None
