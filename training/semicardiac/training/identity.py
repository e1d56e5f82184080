"""What a training is: its number, its settings and what its inputs hold, noted before its first work.

A training that continues compares itself with that. The places of hearts and the slices were prepared from what it
began with; with other inputs or settings it would learn nonsense without a word.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ..base.errors import UserError
from ..base.files import sha256
from ..base.sealed import read_sealed, write_sealed
from ..base.settings import Roi, parse, shown
from ..base.text import count, listed
from ..config import TrainConfig, upgrade
from ..data.splits import Role
from ..images.image_files import DETACHED, Stamp, members, stamp_of
from ..images.labels import LabelSet
from ..images.volumes import read_series
from .context import Context

IDENTITY = "identity.json"
_FIX = "or start a new training, which can continue from a model"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fingerprint(_Model):
    """What a file or a DICOM folder holds."""

    stamp: Stamp
    """By which most need not be read again; empty where it does not tell enough."""
    sha256: str


class Input(_Model):
    """What was noted of a case."""

    patient: str
    role: Role
    frame: int | None
    roi: Roi | None
    image: Fingerprint
    labels: Fingerprint | None


class Identity(_Model):
    """A training, as it was when it began."""

    job: str
    """A random number, which all that the training keeps for itself carries."""
    config: TrainConfig
    labels: LabelSet
    inputs: dict[str, Input]
    """By case name, in the order of the cases."""

    @property
    def content(self) -> str:
        """A hash that changes with the training, its cases, their order and what they hold."""
        held = [
            [name, each.role, each.frame, each.image.sha256, each.labels and each.labels.sha256]
            for name, each in self.inputs.items()
            if each.role != "validation"  # nothing that is kept was made of those
        ]
        return hashlib.sha256(json.dumps([self.job, held]).encode()).hexdigest()


def identify(context: Context) -> Identity:
    """Notes what a training is, or compares it with what was noted when it began.

    Raises:
        Stopped: If a stop was asked for.
        UserError: If an input or a setting is not what it was when the training began, or an input of a new training
            is missing.
    """
    path = context.folder / IDENTITY
    if not path.exists():
        identity = Identity(job=_number(), config=context.config, labels=context.labels, inputs=_note(context))
        write_sealed(path, identity.model_dump(mode="json"))
        return identity
    identity = _read(path)
    _require_same_settings(identity, context)
    _require_same_cases(identity, context)
    current = identity.model_copy(update={"inputs": _compare(identity, context)})
    if current != identity:
        write_sealed(path, current.model_dump(mode="json"))
    return current


def inherit(first: Path, work: Path, config: TrainConfig) -> None:
    """Notes for another training on the same inputs what was noted of the first, where that is known.

    Args:
        first: Working files of the first training.
        work: Those of the other.
        config: The other's.
    """
    if (first / IDENTITY).exists() and not (work / IDENTITY).exists():
        known = _read(first / IDENTITY)
        other = known.model_copy(update={"job": _number(), "config": config})
        write_sealed(work / IDENTITY, other.model_dump(mode="json"))


def _read(path: Path) -> Identity:
    noted = read_sealed(path)
    return parse(Identity, {**noted, "config": upgrade(noted.get("config"))}, where=path)


def _number() -> str:
    return secrets.token_hex(16)


class _Held(dict[Path, Fingerprint]):
    """Fingerprints of files, each read once: many cases may be frames of one."""

    def __missing__(self, path: Path) -> Fingerprint:
        self[path] = fingerprint(path)
        return self[path]


def _note(context: Context) -> dict[str, Input]:
    report, held, inputs = context.report_cases("checking inputs"), _Held(), {}
    for number, case in enumerate(context.noted, start=1):
        for path in filter(None, (case.image, case.labels)):
            if not path.exists():
                hint = "It was there when the job was made; put it back"
                raise UserError("this file is missing", where=path, hint=hint)
        prints = {"image": held[case.image], "labels": held[case.labels] if case.labels else None}
        inputs[case.name] = Input(patient=case.patient, role=case.role, frame=case.frame, roi=case.roi, **prints)
        report(number, len(context.noted), case.name)
    return inputs


def _require_same_settings(identity: Identity, context: Context) -> None:
    """The schedule may change: a training can be prolonged."""
    before, now = (dict(_settings(config)) for config in (identity.config, context.config))
    for key, value in now.items():
        if value != before.get(key):
            what = f"{key} = {shown(value)} does not fit this training, which began with {shown(before.get(key))}"
            raise UserError(what, where="configuration", hint=f"Set it back in job.json, {_FIX}")
    began, named = ([(each.name, each.source_values) for each in of.labels.structures] for of in (identity, context))
    if began != named:
        what = f"the label set '{context.labels.name}' is not what it was when the training began"
        raise UserError(what, where="labels", hint=f"Set it back in job.json, {_FIX}")


def _settings(config: TrainConfig) -> Iterator[tuple[str, object]]:
    for section, settings in config:
        if section == "schedule":
            continue
        if isinstance(settings, BaseModel):
            yield from ((f"{section}.{key}", value) for key, value in settings)
        else:
            yield section, settings


def _require_same_cases(identity: Identity, context: Context) -> None:
    now, hint = {case.name: case for case in context.noted}, f"Set it back in job.json, {_FIX}"
    for how, names in (("new", now.keys() - identity.inputs.keys()), ("gone", identity.inputs.keys() - now)):
        if names:
            what = f"the cases are not those that the training began with ({how}: {listed(sorted(names), 3)})"
            raise UserError(what, where="cases", hint=hint)
    for name, before in identity.inputs.items():
        for key in ("patient", "role", "frame", "roi"):
            if getattr(now[name], key) != getattr(before, key):
                what = f"its {key} is {getattr(now[name], key)}, and was {getattr(before, key)} as the training began"
                raise UserError(what, where=name, hint=hint)
    if list(now) != list(identity.inputs):
        raise UserError("the cases stand in another order than when the training began", where="cases", hint=hint)


def _compare(identity: Identity, context: Context) -> dict[str, Input]:
    """The inputs with the present times of files that were touched and hold what they held."""
    report, cases, held = context.report_cases("checking inputs"), context.noted, _Held()
    inputs, missing, changed = dict(identity.inputs), [], []
    for number, case in enumerate(cases, start=1):
        known, update = inputs[case.name], {}
        for key, path in (("image", case.image), ("labels", case.labels)):
            before = getattr(known, key)
            if path is None or before is None or _is_untouched(path, before):
                continue
            if not path.exists():
                missing.append(case.name)
                continue
            update[key] = held[path]
            if update[key].sha256 != before.sha256:
                changed.append((case.name, key, path))
        if update:
            inputs[case.name] = known.model_copy(update=update)
            report(number, len(cases), case.name)
    if changed:
        name, key, path = changed[0]
        names = list(dict.fromkeys(name for name, *_ in changed))
        what = f"the {key} of {name} {'is' if key == 'image' else 'are'} not what the training began with"
        what += f" (nor are files of {listed(names[1:], 3)})" if names[1:] else ""
        raise UserError(what, where=path, hint=f"Put the file back as it was, {_FIX}")
    if missing:
        names = list(dict.fromkeys(missing))
        what = f"files of {len(names)} of {count(len(cases), 'case')} are no longer there"
        hint = "The training uses the slices that it has prepared of them; put the files back if it asks for one"
        context.events.warn(what, where=listed(names, 3), hint=hint)
    return inputs


def fingerprint(path: Path) -> Fingerprint:
    """The fingerprint of a volume file or a DICOM folder.

    Raises:
        UserError: If its voxels are in a file of another name and cannot be read.
    """
    if path.suffix.lower() in DETACHED:
        return Fingerprint(stamp=(), sha256=_hash_of_voxels(path))
    stamp = stamp_of(path)
    if path.is_dir():  # whatever its files are called
        together = "".join(sorted(sha256(member) for member in members(path)))
        return Fingerprint(stamp=stamp, sha256=hashlib.sha256(together.encode()).hexdigest())
    return Fingerprint(stamp=stamp, sha256=sha256(path))


def _is_untouched(path: Path, known: Fingerprint) -> bool:
    return bool(known.stamp) and path.exists() and stamp_of(path) == known.stamp


def _hash_of_voxels(path: Path) -> str:
    digest = hashlib.sha256()
    for frame in read_series(path):
        digest.update(repr((frame.array.shape, frame.array.dtype.str, frame.ijk_to_ras.tolist())).encode())
        digest.update(frame.array.tobytes())
    return digest.hexdigest()
