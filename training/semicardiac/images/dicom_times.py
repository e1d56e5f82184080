"""The order in time of the images that a DICOM series has of each slice."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..base.errors import UserError
from ..base.text import ordinal
from .dicom_headers import Plane

CLAIMS: dict[str, float | None] = {
    "TriggerTime": 1e-3,
    "NominalCardiacTriggerDelayTime": 1e-3,
    "TemporalPositionTimeOffset": 1.0,
    "FrameTime": 1.0,
    "TemporalPositionIndex": None,
    "TemporalPositionIdentifier": None,
    "NominalPercentageOfCardiacPhase": None,
}
"""Attributes that say which time an image shows, and what makes seconds of them; None for those that number times.
They must not contradict one another. That of FrameTime is `Plane.offset_s`."""
_CLOCKS = {
    "FrameReferenceDateTime": 1.0,
    "FrameAcquisitionDateTime": 1.0,
    "AcquisitionDateTime": 1.0,
    "AcquisitionTime": 1.0,
    "ContentTime": None,
    "InstanceNumber": None,
}
"""Where nothing claims a time, the first of these that runs through the images in a regular way. They may contradict:
a clock may be that of the reconstruction, which gives no seconds, and some scanners number images at random. A number
alone says nothing of images that all lie at one place: these may be slices that lost their positions."""
_KINDS = ("ImageType", "EchoTime", "InversionTime")
"""Attributes in which the images of a slice differ that are no times of one cine: magnitude and phase, echoes, T1 maps.
Where a time is claimed, they are not asked: what is imaged beat by beat may differ in them, too."""
_DAY_S = 86_400
_STEPS_OFF = 0.6
"""The share of a step by which a time may differ between slices, in times of one cycle. With a frame missing here and
another one there, it is two thirds of a step and more."""


def in_order(levels: list[list[Plane]], folder: Path) -> tuple[list[list[Plane]], tuple[float, ...] | None]:
    """The images of each slice in the order of time, and the times of the first slice in seconds from its first on.

    An attribute counts only if every image has it, so that none is put first for the lack of one, and if it tells the
    images of each slice apart.

    Args:
        levels: As many images for each slice.
        folder: Of the series, for errors.

    Raises:
        UserError: If nothing tells the order, two attributes contradict each other, or the slices do not have the same
            times.
    """
    if len(levels[0]) == 1:
        return levels, None
    tables = {tag: table for tag in CLAIMS if (table := _table(levels, tag)) is not None}
    claims = {tag: table for tag, table in tables.items() if np.ptp(table, axis=1).any()}
    for tag, table in claims.items():
        _require_times_of_a_series(tag, table, levels, folder)
    _require_agreement(claims, levels, folder)
    if not claims:
        _require_one_kind(levels, folder)
    tables = claims or {
        tag: table
        for tag in _CLOCKS
        if (table := _table(levels, tag)) is not None
        and _is_regular(table)
        and (tag != "InstanceNumber" or len(levels) > 1)  # all at one place: these may be slices
    }
    if not tables:
        raise _unknown(levels, folder)
    tag, table = next(iter(tables.items()))
    order = table.argsort(axis=1)
    scale = (CLAIMS | _CLOCKS)[tag]
    first = table[0, order[0]]
    times = None if scale is None else tuple(((first - first[0]) * scale).tolist())
    return [[level[index] for index in row] for level, row in zip(levels, order, strict=True)], times


def _value(plane: Plane, tag: str) -> float | None:
    if tag == "FrameTime":
        return plane.offset_s
    return plane.header.clock(tag) if tag in _CLOCKS and tag != "InstanceNumber" else plane.header.number(tag)


def _table(levels: list[list[Plane]], tag: str) -> np.ndarray | None:
    """(slices, images) values of an attribute; None if one is missing."""
    values = [[_value(plane, tag) for plane in level] for level in levels]
    if any(value is None for row in values for value in row):
        return None
    table = np.array(values, dtype=float)
    if tag in ("AcquisitionTime", "ContentTime"):
        table[table < table.max() - _DAY_S / 2] += _DAY_S  # past midnight
    return table


def _is_regular(table: np.ndarray) -> bool:
    """Whether values run through one slice after another, or through all slices time by time: not at random."""
    table = np.sort(table, axis=1)
    table = table[table[:, 0].argsort()]
    slice_by_slice = bool((table[:-1, -1] < table[1:, 0]).all())
    time_by_time = bool((table[:, :-1].max(axis=0) < table[:, 1:].min(axis=0)).all())
    return _are_distinct(table) and (slice_by_slice or time_by_time)


def _are_distinct(table: np.ndarray) -> bool:
    return bool((np.diff(np.sort(table, axis=1), axis=1) > 0).all())


def _require_times_of_a_series(tag: str, table: np.ndarray, levels: list[list[Plane]], folder: Path) -> None:
    """Raises UserError if two images of a slice have one time, or the slices do not have the same times."""
    order = table.argsort(axis=1)
    ordered = np.take_along_axis(table, order, axis=1)
    same = np.argwhere(np.diff(ordered, axis=1) == 0)
    if len(same):
        row, column = same[0]
        one, other = (levels[row][order[row, column + step]].name for step in (0, 1))
        what = f"two images of one slice have the same {tag}: {one}, and {other}"
        hint = "Export one kind of images alone, such as the magnitude, and each image once"
        raise UserError(what, where=folder, hint=hint)
    if CLAIMS[tag] is None:
        same_numbers = (ordered == ordered[0]).all(axis=1)
        fits = same_numbers.all() or (len(np.unique(table)) == table.size and _is_regular(table))
        odd = levels[int(same_numbers.argmin())][0].name
    else:  # in cycles: the heart may have beaten faster while one of the slices was imaged
        steps = (ordered - ordered[:, :1]) / (ordered[:, -1:] - ordered[:, :1]) * (table.shape[1] - 1)
        off = np.abs(steps - np.median(steps, axis=0)).max(axis=1)
        fits = np.ptp(steps, axis=0).max() < _STEPS_OFF
        odd = levels[int(off.argmax())][0].name
    if not fits:
        what = f"the slices do not have the same times by {tag}; the one of {odd} differs from others"
        raise UserError(what, where=folder, hint="Images are missing, or series are mixed: export one whole series")


def _require_agreement(claims: dict[str, np.ndarray], levels: list[list[Plane]], folder: Path) -> None:
    """Raises UserError if two attributes put the images of a slice into different orders."""
    ranks = {tag: table.argsort(axis=1).argsort(axis=1) for tag, table in claims.items()}
    for tag in list(ranks)[1:]:
        by = next(iter(ranks))
        differ = np.argwhere(ranks[tag] != ranks[by])
        if len(differ):
            row, column = differ[0]
            what = (
                f"two attributes contradict each other: {levels[row][column].name} is the "
                f"{ordinal(ranks[by][row, column] + 1)} image of its slice by {by} and the "
                f"{ordinal(ranks[tag][row, column] + 1)} by {tag}"
            )
            hint = "Export the series again, from the scanner or the archive it was first sent to"
            raise UserError(what, where=folder, hint=hint)


def _require_one_kind(levels: list[list[Plane]], folder: Path) -> None:
    """Raises UserError if the images of each slice are of several kinds, and nothing says that they are times."""
    for tag in _KINDS:
        kinds = [{plane.header.text(tag) for plane in level} for level in levels]
        if min(map(len, kinds)) > 1:
            first = levels[0][0]
            other = next(plane for plane in levels[0] if plane.header.text(tag) != first.header.text(tag))
            what = f"the images of a slice differ in {tag}, such as {first.name} and {other.name}, and none has a time"
            hint = "Export one kind of images alone, such as the magnitude, or one echo"
            raise UserError(what, where=folder, hint=hint)


def _unknown(levels: list[list[Plane]], folder: Path) -> UserError:
    planes = [plane for level in levels for plane in level]
    reasons = []
    for tag in CLAIMS | _CLOCKS:
        without = [plane for plane in planes if _value(plane, tag) is None]
        if without and len(without) < len(planes):
            reasons.append(f"{tag} is missing in {len(without)} of {len(planes)}, such as {without[0].name}")
        elif tag in _CLOCKS and (table := _table(levels, tag)) is not None:
            fault = "alone does not say so" if len(levels) == 1 else "is in no order"
            fault = fault if _are_distinct(table) else "repeats"
            reasons.append(f"{tag} {fault}")
    what = f"nothing tells the order of the {len(levels[0])} images of each slice"
    if len(levels) == 1:
        what = f"nothing tells that the {len(planes)} images, which all lie at one place, are times, and their order"
    if reasons:
        what += f" ({'; '.join(reasons)})"
    hint = "Export the series with TriggerTime or TemporalPositionIdentifier, or one time alone"
    return UserError(what, where=folder, hint=hint)
