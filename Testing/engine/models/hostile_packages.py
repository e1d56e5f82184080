"""Folders of models that were made to do harm, or that accidents made; zips are in hostile_zips.py.

`KINDS` has them by name: how to make one from a whole one, what the error says when the engine loads it (None if it
may be loaded), and whether the error comes already when models are listed, which looks at no tensor.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semicardiac.models.package import CHECKSUMS, CONTENT, SETTINGS, WEIGHTS

from Testing.engine.jobs.support import sign

FILES = (*CONTENT, CHECKSUMS)
ESCAPE = "\x1b]0;owned\x07\x1b[2J\u202e"


@dataclass(frozen=True)
class Kind:
    make: Callable[[Path, Path], Path]
    """Gets a whole package folder and a folder of its own to make the hostile one in; returns its path."""
    told: str | None
    listed: bool = True


KINDS: dict[str, Kind] = {}


# ----- config.json


def _edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path, Path], Path]:
    def make(whole: Path, folder: Path) -> Path:
        place = shutil.copytree(whole, folder / "p")
        settings = json.loads((place / SETTINGS).read_text(encoding="utf-8"))
        change(settings)
        (place / SETTINGS).write_text(json.dumps(settings), encoding="utf-8")
        sign(place)
        return place

    return make


def _with(path: str, value: object) -> Callable[[dict[str, Any]], object]:
    def change(settings: Any) -> None:
        *sections, last = (int(part) if part.isdigit() else part for part in path.split("."))
        for part in sections:
            settings = settings[part]
        settings[last] = value

    return change


def _written(name: str, content: bytes) -> Callable[[Path, Path], Path]:
    def make(whole: Path, folder: Path) -> Path:
        place = shutil.copytree(whole, folder / "p")
        (place / name).write_bytes(content)
        sign(place)
        return place

    return make


for _path, _values in {
    "format": ("1", None, True, 1.5, 0, [], {}),
    "version": (1, None, ESCAPE, "9" * 1000),
    "config": ([], None, "default"),
    "config.preset": ("other", 3),
    "config.seed": (-1, "x"),
    "config.network": ([], "unet"),
    "config.network.name": (1, []),
    "config.network.widths": ("wide", [4], [0, 8], [-4, 8], [4, None], [2] * 9),
    "config.locate.widths": ([[4]], [4, 8, 16, 32, 64, 128]),
    "config.locate.size": (31, 10**9),
    "config.preprocess.crop": (48.5, "x", 31, 10**9, -32),
    "config.preprocess.spacing_mm": (0, -1, "wide", 1e9),
    "config.preprocess.clip": ([1], [2, 1], "all", [1, 2, 3]),
    "config.preprocess.plane": ("oblique", None),
    "config.method": ([], "x"),
    "config.method.name": (1, None, []),
    "labels": ([], None, "acdc"),
    "labels.name": ("", 1),
    "labels.structures": ([], {}, None, [1], ["RV"], [{}] * 300),
    "labels.structures.0": (None, [], "RV", {"name": "RV"}),
    "labels.structures.0.name": ("", 5),
    "labels.structures.0.source_values": ([], [0], [70000], 1),
    "labels.structures.0.color": ([1, 2], [300, 0, 0], "red"),
    "labels.structures.0.role": ("atrium",),
    "labels.structures.0.type": ("heart", {"scheme": 1}),
    "locator": ("yes", 1, None, []),
    "heart_area_mm2": (None, [1], [1, 2, 3], ["1", "2"], [2, 1], [-1, 1], [1, 1e300], {"low": 1}, 10**400),
    "about": ([], None, "good", 1, {"a": {}}, {"a": ["gpu"]}, {"a": "x" * 5000}, {"a": 10**400}, {"a": 1e300}),
    "about.validation_mean_dice": ("high", [0.9]),
    "about.training_seconds": ("long", {}),
}.items():
    for _value in _values:
        _field = _path.replace("about.", "about: .").replace(".", r"\.").replace(r": \.", ": '")  # told by name
        _name = repr(_value) if len(repr(_value)) < 40 else f"{repr(_value)[:20]}... ({len(repr(_value))})"
        KINDS[f"{_path}={_name}"] = Kind(_edited(_with(_path, _value)), rf"config\.json: {_field}")
for _path, _values in {
    "network.name": ("resnet",),
    "network.widths": ([10**9] * 2, [10**30] * 2),
    "locate.widths": ([4, 16384], [10**30] * 2),
    "preprocess.crop": (None,),
    "method.name": ("resnet", ESCAPE),
    "method.lamda_u": (1,),
    "method.tau": ("warm", 1e400, [1]),
}.items():
    for _value in _values:
        KINDS[f"{_path}={_value!r:.30}"] = Kind(_edited(_with(f"config.{_path}", _value)), _path, listed=False)
for _path in ("format", "version", "config", "labels", "locator", "heart_area_mm2", "about"):
    KINDS[f"no {_path}"] = Kind(_edited(lambda settings, name=_path: settings.pop(name)), rf"tells no {_path}")
KINDS |= {
    "format 99": Kind(_edited(lambda settings: settings.update(format=99, version="9.1")), r"newer version \(9.1"),
    "format 99, hostile version": Kind(
        _edited(lambda settings: settings.update(format=99, version=[ESCAPE])), r"newer version \(\?"
    ),
    "widths that take 7 GB": Kind(
        _edited(_with("config.network.widths", [6000, 6000, 6000])), "do not fit.*shape|shape.*do not fit", listed=False
    ),
    "locator of other widths": Kind(
        _edited(_with("config.locate.widths", [4, 16])), r"config\.locate\.widths: the weights do not fit", listed=False
    ),
    "volumes without a depth": Kind(
        _edited(_with("config.network.dimensions", 3)), r"config\.preprocess\.depth", listed=False
    ),
    "a block that fills the memory": Kind(
        _edited(lambda settings: settings["config"]["preprocess"].update(crop=512, depth=512)), "512 x 512 x 512 voxels"
    ),
    "another crop": Kind(_edited(_with("config.preprocess.crop", 48)), "threshold has the shape", listed=False),
    "no locator told": Kind(_edited(_with("locator", False)), "has no place in it", listed=False),
    "a structure fewer": Kind(_edited(lambda settings: settings["labels"]["structures"].pop()), "fit", listed=False),
    "every source value": Kind(
        _edited(_with("labels.structures.0.source_values", list(range(4, 30_000)))), None, listed=False
    ),
    "escapes in texts": Kind(
        _edited(
            lambda settings: (
                settings["labels"].update(name=ESCAPE),
                settings["labels"]["structures"][0].update(name=f"RV{ESCAPE}"),
                settings["about"].update({"device": ESCAPE, ESCAPE: 1}),
            )
        ),
        None, listed=False,
    ),
    "escapes in the name of a setting": Kind(
        _edited(_with(f"config.method.{ESCAPE}", 1)), r"config\.method\.\\x1b", listed=False
    ),
    "escapes in the name of a field": Kind(_edited(_with(f"labels.{ESCAPE}", 1)), r"labels\.\\x1b.*no such setting"),
    "surrogates in texts": Kind(_edited(_with("about.device", "\ud800")), None, listed=False),
    "a structure twice": Kind(
        _edited(lambda settings: settings["labels"]["structures"].append(settings["labels"]["structures"][0])),
        r"config\.json: labels\.structures: the name rv_cavity stands for more than one structure",
    ),
    "fifty thousand wrong entries": Kind(_edited(_with("labels.structures", [""] * 50_000)), "structures"),
    "a thousand entries": Kind(_edited(_with("about", {str(n): n for n in range(1000)})), "about"),
}  # fmt: skip
for _name, _content in {
    "nothing": b"", "a list": b"[]", "a number": b"1", "half": b'{"format": 1, "vers', "words": b"hello",
    "binary": bytes(range(256)), "deep lists": b"[" * 100_000, "deep objects": b'{"a":' * 50_000,
    "a number of many digits": b'{"format": ' + b"9" * 10_000 + b"}", "zeros": bytes(1000),
}.items():  # fmt: skip
    KINDS[f"{SETTINGS}: {_name}"] = Kind(_written(SETTINGS, _content), f"{SETTINGS} is not readable")
KINDS[f"{SETTINGS}: long"] = Kind(_written(SETTINGS, b" " * (2 << 20)), f"{SETTINGS} is larger than")


# ----- weights


def _tensors(whole: Path) -> tuple[dict[str, Any], bytes]:
    content = (whole / WEIGHTS).read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def _packed(header: object, data: bytes, length: int | None = None) -> bytes:
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _weights(change: Callable[[dict[str, Any], bytearray], object]) -> Callable[[Path, Path], Path]:
    def make(whole: Path, folder: Path) -> Path:
        header, data = _tensors(whole)
        data = bytearray(data)
        change(header, data)
        return _written(WEIGHTS, _packed(header, bytes(data)))(whole, folder)

    return make


def _value(name: str, value: float) -> Callable[[dict[str, Any], bytearray], object]:
    def change(header: dict[str, Any], data: bytearray) -> None:
        struct.pack_into("<f", data, header[name]["data_offsets"][0], value)

    return change


def _entry(name: str, **changes: object) -> Callable[[dict[str, Any], bytearray], object]:
    return lambda header, data: header[name].update(changes)


HEAD, LOCATOR = "network.head.weight", "locator.head.weight"
for _name, _change, _told in (
    ("missing", lambda header, data: header.pop(HEAD), f"{HEAD} is missing"),
    ("extra", lambda header, data: header.update({f"x{ESCAPE}": header[HEAD]}), r"x\\x1b.* has no place in it"),
    ("of another shape", _entry(HEAD, shape=[8, 8]), f"{HEAD} has the shape"),
    ("of a huge shape", _entry(HEAD, shape=[10**18, 10**18]), f"{HEAD} has the shape"),
    ("of a negative shape", _entry(HEAD, shape=[-1, 4, 1, 1]), "holds no weights"),
    ("of no shape", _entry(HEAD, shape="16"), "holds no weights"),
    ("of float16", _entry(HEAD, dtype="F16"), f"{HEAD} is of type 'F16'"),
    ("of int32", _entry(HEAD, dtype="I32"), "of type 'I32'"),
    ("of an unknown type", _entry(HEAD, dtype=ESCAPE * 9), f"{HEAD} is of type"),
    ("without a type", lambda header, data: header[HEAD].pop("dtype"), "holds no weights"),
    ("beyond the end", _entry(HEAD, data_offsets=[10**12, 10**12 + 512]), "damaged"),
    ("before the begin", _entry(HEAD, data_offsets=[-4, 508]), "holds no weights"),
    ("over another", _entry(HEAD, data_offsets=[0, 512]), "damaged"),
    ("cut short", lambda header, data: data.__delitem__(slice(-4, None)), "damaged"),
    ("with more behind", lambda header, data: data.extend(bytes(4)), "larger than"),
    ("NaN", _value(HEAD, float("nan")), f"values in {HEAD} that are no numbers"),
    ("infinite", _value(LOCATOR, float("inf")), f"values in {LOCATOR} that are no numbers"),
    ("of a threshold that is NaN", _value("method.threshold", float("nan")), "values in method.threshold"),
    ("of a ratio with two classes", _entry("method.ratio", shape=[2]), r"config\.method.*ratio has the shape"),
    ("of a flat threshold", _entry("method.threshold", shape=[1024]), r"config\.method.*threshold has the shape"),
    ("missing in the locator", lambda header, data: header.pop(LOCATOR), rf"locate\.widths.*{LOCATOR} is missing"),
    ("all missing", lambda header, data: (header.clear(), data.clear()), r"missing and \d+ more"),
    ("and metadata that are a list", lambda header, data: header.update(__metadata__=[1]), "damaged"),
    ("and a number as an entry", lambda header, data: header.update(a=1), "holds no weights"),
):
    KINDS[f"tensor {_name}"] = Kind(_weights(_change), _told, listed=_told in ("holds no weights", "larger than"))
for _name, _content in {
    "nothing": b"", "seven bytes": bytes(7), "zeros": bytes(10_000), "words": b"these are no weights",
    "an endless header": _packed({}, b"", 2**63), "a header longer than the file": _packed({}, b"", 10**6),
    "a header that is a list": _packed([], b""), "a header that is null": _packed(None, b""),
    "a deep header": _packed(b"[" * 500_000, b""), "a deep object": _packed(b'{"a":' * 100_000, b""),
    "no JSON": _packed(b"\xff" * 64, b""), "a pickle": pickle.dumps({"a": 1}),
}.items():  # fmt: skip
    KINDS[f"weights: {_name}"] = Kind(_written(WEIGHTS, _content), "holds no weights")


# ----- files of a folder


def _placed(name: str, put: Callable[[Path], object]) -> Callable[[Path, Path], Path]:
    def make(whole: Path, folder: Path) -> Path:
        place = shutil.copytree(whole, folder / "p")
        (place / name).unlink()
        put(place / name)
        return place

    return make


def _outside(path: Path) -> None:
    (path.parent.parent / "outside").write_bytes(b"of somebody else")
    path.symlink_to(path.parent.parent / "outside")


def _sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(3 << 30)


for _name in FILES:
    _puts: dict[str, tuple[Callable[[Path], object], str]] = {
        "is a folder": (lambda path: path.mkdir(), "plain file"),
        "is empty": (lambda path: path.touch(), "not what it was|not readable|no weights"),
        "is of 3 GB": (_sparse, "larger than"),
    }
    if _name != SETTINGS:  # without which nothing looks like a package
        _puts["is missing"] = (lambda path: None, "is missing")
    if hasattr(os, "mkfifo"):
        _puts |= {
            "is a link to a device": (lambda path: path.symlink_to("/dev/zero"), "plain file"),
            "is a link to a file elsewhere": (_outside, "plain file"),
            "is a link to itself": (lambda path: path.symlink_to(path), "plain file"),
            "is a fifo": (lambda path: os.mkfifo(path), "plain file"),
        }
    for _what, (_put, _told) in _puts.items():
        KINDS[f"{_name} {_what}"] = Kind(_placed(_name, _put), _told)
KINDS |= {
    "checksums of nothing": Kind(_placed(CHECKSUMS, lambda path: path.write_bytes(b"\n" * 100)), "not what it was"),
    "checksums that are binary": Kind(_placed(CHECKSUMS, lambda path: path.write_bytes(bytes(255))), "not what"),
}


# ----- what is no package at all


def _thing(put: Callable[[Path], object], name: str = "p") -> Callable[[Path, Path], Path]:
    def make(whole: Path, folder: Path) -> Path:
        put(folder / name)
        return folder / name

    return make


def _job(content: bytes | None) -> Callable[[Path], object]:
    def put(path: Path) -> None:
        path.mkdir()
        if content is None:
            os.mkfifo(path / "job.json")
        else:
            (path / "job.json").write_bytes(content)

    return put


KINDS |= {
    "nothing there": Kind(_thing(lambda path: None), "no such model"),
    "an empty folder": Kind(_thing(lambda path: path.mkdir()), "no model here"),
    "a text": Kind(_thing(lambda path: path.write_text("hello"), "p.zip"), "not a model package"),
    "an empty file": Kind(_thing(lambda path: path.touch(), "p.zip"), "not a model package"),
    "the end of a zip": Kind(_thing(lambda path: path.write_bytes(b"PK\5\6" + bytes(18)), "p.zip"), "missing|not a"),
    "a job that is a list": Kind(_thing(_job(b"[]")), "no model here"),
    "a job that is deep": Kind(_thing(_job(b"[" * 100_000)), "no model here"),
    "a job of a list": Kind(_thing(_job(b'{"kind": ["train"]}')), "no model here"),
}
if hasattr(os, "mkfifo"):
    KINDS |= {
        "a fifo": Kind(_thing(lambda path: os.mkfifo(path), "p.zip"), "not a model package"),
        "a device": Kind(_thing(lambda path: path.symlink_to("/dev/zero")), "not a model package"),
        "a link to itself": Kind(_thing(lambda path: path.symlink_to(path)), "no such model"),
        "a job that is a fifo": Kind(_thing(_job(None)), "no model here"),
        "a name too long": Kind(_thing(lambda path: None, "x" * 300), "no such model"),
    }
