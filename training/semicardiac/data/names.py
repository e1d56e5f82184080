"""What the name of a file tells: whose volume it is, which frame, which phase; ACDC, BIDS, M&Ms and others."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from typing import Literal, NamedTuple

Phase = Literal["ED", "ES"]
MAPS = ("confidence", "entropy", "threshold", "pseudo_labels")
"""What a segmentation can write beside its labels, see `predict.segment`."""

LABEL_ENDING = re.compile(r"[_-](gt|labels?|seg|segmentation|mask)$", re.IGNORECASE)
"""What the name of a label file has more than that of its image; a .seg.nrrd needs none of these."""

IMAGE_ENDING = re.compile(r"[_-]image$", re.IGNORECASE)

MAP_ENDING = re.compile(rf"_({'|'.join(MAPS)})$")

CINE_ENDING = re.compile(r"_4d$", re.IGNORECASE)

_NOBODY = re.compile(r"frame_?\d+|ED|ES", re.IGNORECASE)
"""Names that say nothing of the patient, whose name the folder has then."""

_SUBJECT = re.compile(r"(?:.*_)?sub-(?:[A-Za-z]*\d[A-Za-z0-9]*(?=_|$)|[A-Za-z]+(?=_ses-))")
"""What begins a name in BIDS: sub-01_ses-02_cine is of subject 01; the names of folders may come before."""

_SUBJECT_FOLDERS = re.compile(r"(?<=/)(sub-\d+|sub-[A-Za-z0-9]+(?=/ses-))(/ses-[A-Za-z0-9]+)?(/[a-z]{2,5})?$")
"""The folders that a file lies in there: sub-01/ses-02/anat."""


class NameParts(NamedTuple):
    """What a name tells: patient001_frame01, SC-HF-I-01_ED, mr_train_1001, sub-01_ses-02_cine."""

    patient: str
    frame: int | None = None
    """As numbered in the name: ACDC counts from 1."""
    phase: Phase | None = None
    scan: str = ""
    """What the names of all frames of one scan begin with: the patient, in BIDS with the session."""


def parse_name(name: str) -> NameParts:
    """Reads a name without suffix and endings such as _gt."""
    framed = re.fullmatch(r"(.+?)[_-]frame_?(\d{1,9})", name, re.IGNORECASE)
    phased = re.fullmatch(r"(.+?)[_-](ED|ES)", name, re.IGNORECASE)
    found = framed or phased
    scan = found[1] if found else CINE_ENDING.sub("", name)
    subject = subject_of(scan)
    frame = int(framed[2]) if framed else None
    phase: Phase | None = None
    if phased and not framed:
        phase = "ED" if phased[2].upper() == "ED" else "ES"
    return NameParts(subject or scan, frame, phase, scan)


def subject_of(name: str) -> str | None:
    """The subject of a name in BIDS, whose sessions and runs are of one patient: sub-01 of sub-01_ses-02_cine."""
    found = _SUBJECT.match(name)
    return found[0] if found else None


def visit_of(name: str, patient: str) -> str:
    """Whose ED and ES a volume of this name belongs to: the patient's, but in BIDS those of one session."""
    parts = parse_name(name)
    return parts.scan if subject_of(name) and parts.patient == patient else patient


def name_of(key: Path) -> str:
    """What a volume is called whose path, without suffix and endings, this is: x/ED tells no patient and is x_ED, and
    sub-01/ses-02/cine is sub-01_ses-02_cine."""
    key = Path(unicodedata.normalize("NFC", os.path.abspath(key)))  # of the folder '.' too
    if (folders := _SUBJECT_FOLDERS.search(key.parent.as_posix())) and not subject_of(key.name):
        return f"{folders[0]}/{key.name}".replace("/", "_")
    return f"{key.parent.name}_{key.name}" if _NOBODY.fullmatch(key.name) else key.name


def frame_name(name: str, frame: int) -> str:
    """What a frame of a time series is called: frame 0 of patient001_4d is patient001_frame01, as in ACDC."""
    return f"{CINE_ENDING.sub('', name)}_frame{frame + 1:02d}"
