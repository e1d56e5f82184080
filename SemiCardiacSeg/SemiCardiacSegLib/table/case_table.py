"""The table of cases. It lives in the parameter node of the module, and so is saved and comes back with the scene."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import slicer
import slicer.util

from ..engine import process
from ..i18n import tr as _
from ..scene.nodes import CASE_ATTRIBUTE, checkKind, hardenedCopy, isTransformed
from ..scene.segmentations import isLabelMap, resampledCopy, segmentNames
from ..scene.structures import mappingOf
from .checks import Checks, Findings
from .entries import addEntry, addFile, addPool, entryOf, filesOf
from .problems import Problem, noCases, problemsOfAll
from .rows import PARTS, PARTS_OF, PHASES, ROLES, Row, rowOf, summaryOf
from .scene_cases import (
    findSequences,
    findVolumes,
    isCine,
    matchSegmentations,
    patientAndPhase,
    sequenceOf,
    unmatchedSegmentations,
)
from .store import TableStore

_NODES = [f"{part}Node" for part in PARTS]
_POOL_SIZE = 20
"""More unlabeled cases of one folder than these take one row together."""


class DataSet:
    """The cases of a training.

    Nodes are held as node references of the parameter node, everything else as JSON in one of its parameters. Nothing
    is kept besides: whoever makes another DataSet for the same node sees the same table.
    """

    def __init__(self, parameterNode) -> None:
        self.parameterNode = parameterNode
        self._table = TableStore(parameterNode)
        self._checks = Checks()
        self._knownRows: dict[str, tuple[tuple, Row]] = {}

    # ----- reading

    def rows(self) -> list[Row]:
        """All rows, in the order in which they were added."""
        accepted = self.acceptedKeys()
        return [self._row(entry, accepted) for entry in self._table.read()["rows"]]

    def row(self, key: str) -> Row:
        """The row with a key.

        Raises:
            ValueError: If there is none.
        """
        return self._row(entryOf(self._table.read(), key), self.acceptedKeys())

    def acceptedKeys(self) -> set[str]:
        """Keys of the cases of sequences and pools that have become rows of their own: `case3/12`."""
        entries = self._table.read()["rows"]
        nodes = (self._table.node("volume", entry["key"]) for entry in entries if entry["kind"] == "volume")
        return {key for node in nodes if node is not None and (key := node.GetAttribute(CASE_ATTRIBUTE))}

    def unmatchedSegmentations(self, rows: Sequence[Row] | None = None) -> list:
        """The segmentations and label maps of the scene that belong to no row, while a volume of the table has none.

        Args:
            rows: What `rows` has returned just now, to save the time.
        """
        rows = self.rows() if rows is None else rows
        if not any(row.volumeNode is not None and row.segmentationNode is None for row in rows):
            return []
        return unmatchedSegmentations(row.segmentationNode for row in rows)

    def unsegmentedNodes(self) -> list:
        """The volumes and sequences of the scene in the table that no segmentation belongs to, but for ignored ones."""
        rows = [row for row in self.rows() if row.segmentationNode is None and row.role != "ignore"]
        return [node for row in rows if (node := row.volumeNode or row.sequenceNode) is not None]

    def labelSet(self):
        """What the labels mean: a `semicardiac.images.labels.LabelSet`, `acdc` unless another one was set."""
        process.addToPath()
        from semicardiac.images.labels import LabelSet, get_label_set

        labels = self._table.read()["labels"]
        return get_label_set(labels) if isinstance(labels, str) else LabelSet.model_validate(labels)

    def mapping(self, key: str) -> dict[str, str]:
        """Names of structures by segment ID: as the user said, else as far as it can be told."""
        node = self._table.node("segmentation", key)
        return mappingOf(node, entryOf(self._table.read(), key)["mapping"], self.labelSet())

    def files(self, key: str) -> list[dict]:
        """Name, patient, image and so on of each file of a row: fields of a `semicardiac.data.cases.Case`."""
        return filesOf(entryOf(self._table.read(), key))

    def problems(self, row: Row) -> list[Problem]:
        """What is wrong with one of `rows`. Its labels are read again only if something has changed."""
        said = entryOf(self._table.read(), row.key)["mapping"]
        return self._checks.problems(row, said, self.labelSet())

    def allProblems(self) -> list[Problem]:
        """What is wrong with the rows, each named, and with the cases together; errors first."""
        return self.check(self.rows()).problems

    def check(self, rows: Sequence[Row], seconds: float = math.inf) -> Findings:
        """What is wrong with the rows, as far as it is found in some time; called again, it continues.

        Args:
            rows: What `rows` has returned just now.
            seconds: After so long, cases that are new or have changed wait for the next call; one is always checked.
        """
        mappings = {entry["key"]: entry["mapping"] for entry in self._table.read()["rows"]}
        problems = problemsOfAll(rows, self._patients())
        named, unchecked = self._checks.check(rows, mappings, self.labelSet(), seconds)
        return Findings(sorted(problems + named, key=lambda problem: problem.level != "error"), unchecked)

    def requireSound(self) -> None:
        """Makes sure that one can train on the table.

        Raises:
            ValueError: If it has an error: the first one, and how many more there are.
        """
        errors = [problem.text for problem in self.allProblems() if problem.level == "error"]
        if len(errors) > 1:
            errors[0] += " " + _("(More errors in the table: {count})").format(count=len(errors) - 1)
        if errors:
            raise ValueError(errors[0])

    def summary(self, rows: Sequence[Row] | None = None) -> str:
        """How many cases there are: `7 labeled (4 patients), 1,264 unlabeled, 2 validation`.

        Args:
            rows: What `rows` has returned just now, to save the time.
        """
        rows = self.rows() if rows is None else rows
        return summaryOf(rows) if rows else noCases()

    # ----- adding and removing

    def addVolume(self, volumeNode, segmentationNode=None, role=None, patient=None, phase=None) -> Row:
        """Adds a volume of the scene; one that is in the table already is not added twice, but takes what is given.

        Args:
            volumeNode: A scalar volume. One under a transform is added with a problem that can be fixed.
            segmentationNode: Its segmentation or label map.
            role: By default labeled with a segmentation and unlabeled without.
            patient: By default as the node's name and place tell.
            phase: "ED" or "ES"; by default as the name tells.

        Raises:
            ValueError: If the volume cannot be an image, or shows a frame of a sequence; for an unknown role or phase.
        """
        checkKind(volumeNode)
        if sequence := sequenceOf(volumeNode):
            message = _("'{name}' shows a frame of '{sequence}'. Add that sequence, or a clone of the volume.")
            raise ValueError(message.format(name=volumeNode.GetName(), sequence=sequence.GetName()))
        if segmentationNode is not None:
            _checkSegmentation(segmentationNode)
        _checkOneOf(role or "unlabeled", ROLES)
        _checkOneOf(phase or "", PHASES)
        key = self._table.keyOf("volume", volumeNode)
        guessed = patientAndPhase(volumeNode)
        with self._table.changed() as state:
            if key is None:
                key = addEntry(state, kind="volume", name=volumeNode.GetName(), patient=guessed[0], phase=guessed[1])
                self._table.refer("volume", key, volumeNode)
            entry = entryOf(state, key)
            given = {"role": role, "patient": patient, "phase": phase}
            entry.update({name: value for name, value in given.items() if value is not None})
            if segmentationNode is not None:
                self._setSegmentation(entry, segmentationNode, changeRole=role is None)
        return self.row(key)

    def addScene(self) -> list[Row]:
        """Adds the volumes of the scene with the segmentations that belong to them, and the sequences of volumes.

        Results of ours are left out, and so are volumes that show a frame of a sequence.

        Returns:
            The new rows.
        """
        rows = self.rows()
        known = {row.volumeNode for row in rows} | {row.sequenceNode for row in rows}
        found, refused = findVolumes()
        for why in refused:
            logging.warning(why)
        volumes = [node for node in found if node not in known]
        matches = matchSegmentations(volumes, self.labelSet(), taken={row.segmentationNode for row in rows})
        with self.atOnce():
            added = [self.addVolume(node, matches.get(node)) for node in volumes]
            added += [self.addSequence(node) for node in findSequences() if node not in known]
        return added

    def addSequence(self, sequenceNode) -> Row:
        """Adds the frames of a sequence as unlabeled cases; a sequence is in the table once.

        Raises:
            ValueError: If it is no sequence of volumes.
        """
        if sequenceNode is None or not sequenceNode.IsA("vtkMRMLSequenceNode") or not isCine(sequenceNode):
            name = sequenceNode.GetName() if sequenceNode is not None else ""
            raise ValueError(_("'{name}' is no sequence of volumes. Choose one.").format(name=name))
        key = self._table.keyOf("sequence", sequenceNode)
        if key is None:
            patient, _phase = patientAndPhase(sequenceNode)
            with self._table.changed() as state:
                key = addEntry(state, kind="sequence", name=sequenceNode.GetName(), patient=patient)
                self._table.refer("sequence", key, sequenceNode)
        return self.row(key)

    def addPaths(self, paths: Sequence[Path | str]) -> list[Row]:
        """Adds the cases in files, folders and case lists (`semicardiac.data.discover.discover`); they stay there.

        Cases with labels take one row each. So do unlabeled ones, unless a folder holds more than 20 of them: then
        these take one row together. Files that are in the table already are not added twice.

        Returns:
            The new rows.

        Raises:
            ValueError: If a path is missing or holds no volumes.
        """
        process.addToPath()
        from semicardiac.data.discover import discover

        paths = [Path(path).absolute() for path in paths]
        groups = [[path] for path in paths if path.is_dir() or path.suffix.lower() == ".csv"]
        groups.append([path for path in paths if [path] not in groups])
        known = self._knownFiles()
        keys = []
        with self._table.changed() as state:
            for group in filter(None, groups):
                cases = [case for case in discover(group) if (case.image, case.frame) not in known]
                known |= {(case.image, case.frame) for case in cases}
                unlabeled = [case for case in cases if case.role == "unlabeled"]
                if len(unlabeled) > _POOL_SIZE:
                    folder = group[0] if group[0].is_dir() else group[0].parent
                    cases = [case for case in cases if case.role != "unlabeled"]
                    keys.append(addPool(state, folder, unlabeled))
                keys += [addFile(state, case) for case in cases]
        return [self.row(key) for key in keys]

    def remove(self, keys: Iterable[str]) -> None:
        """Takes rows out of the table; nodes and files stay."""
        keys = set(keys)
        with self._table.changed() as state:
            state["rows"] = [entry for entry in state["rows"] if entry["key"] not in keys]
            for key in keys:
                for part in PARTS:
                    self._table.refer(part, key, None)

    # ----- changing

    @contextmanager
    def atOnce(self) -> Iterator[None]:
        """What is changed inside is saved together; if something in it fails, the table stays as it was."""
        with self._table.changed():
            yield

    def setRole(self, keys: Iterable[str], role: str) -> None:
        """Gives rows a role.

        Raises:
            ValueError: If there is no such role.
        """
        _checkOneOf(role, ROLES)
        with self._table.changed() as state:
            for key in keys:
                entryOf(state, key)["role"] = role

    def setPatient(self, key: str, patient: str) -> None:
        """Says whose volume this is."""
        with self._table.changed() as state:
            entryOf(state, key)["patient"] = patient

    def setPhase(self, key: str, phase: str) -> None:
        """Says whether this is "ED", "ES" or neither ("").

        Raises:
            ValueError: For anything else.
        """
        _checkOneOf(phase, PHASES)
        with self._table.changed() as state:
            entryOf(state, key)["phase"] = phase

    def setSegmentation(self, key: str, segmentationNode) -> None:
        """Gives a volume another segmentation or label map, or none.

        An unlabeled case that gets its first one becomes labeled; a labeled or validation case that loses its own
        becomes unlabeled.

        Raises:
            ValueError: If the row is no volume of the scene, or the node is no segmentation.
        """
        if segmentationNode is not None:
            _checkSegmentation(segmentationNode)
        with self._table.changed() as state:
            entry = entryOf(state, key)
            if entry["kind"] != "volume":
                message = _("'{name}' is no volume of the scene, so that it can have no segmentation. Load it first.")
                raise ValueError(message.format(name=entry["name"]))
            self._setSegmentation(entry, segmentationNode, changeRole=True)

    def setMapping(self, key: str, mapping: Mapping[str, str] | None) -> None:
        """Says which segments are which structures, by segment ID; None leaves it to the names and codes.

        Raises:
            ValueError: If the label set has no such structure.
        """
        for name in (mapping or {}).values():
            _checkOneOf(name, self.labelSet().names)
        with self._table.changed() as state:
            entryOf(state, key)["mapping"] = None if mapping is None else dict(mapping)

    def setMappingOfAlike(self, key: str, mapping: Mapping[str, str]) -> int:
        """Gives the mapping of one row also to the others whose segmentation has segments of the same names.

        Returns:
            How many rows it was given to, `key` included.

        Raises:
            ValueError: As `setMapping`.
        """
        alike = self.alike(key)
        names = segmentNames(self.row(key).segmentationNode)
        structures = {names[segmentId]: structure for segmentId, structure in mapping.items()}
        with self.atOnce():
            for row in alike:
                ids = segmentNames(row.segmentationNode)
                self.setMapping(row.key, {each: structures[name] for each, name in ids.items() if name in structures})
        return len(alike)

    def alike(self, key: str) -> list[Row]:
        """The rows whose segmentation has segments of the same names as that of a row, this one included."""
        names = sorted(segmentNames(self.row(key).segmentationNode).values())
        return [
            row
            for row in self.rows()
            if (node := row.segmentationNode) is not None
            and not isLabelMap(node)
            and sorted(segmentNames(node).values()) == names
        ]

    def setLabelSet(self, labelSet) -> None:
        """Says what the labels mean.

        Args:
            labelSet: A `semicardiac.images.labels.LabelSet`, a ready-made one (`acdc`, `mmwhs`), or a JSON file.

        Raises:
            ValueError: If there is no such label set.
        """
        process.addToPath()
        from semicardiac.images.labels import LABEL_SETS, LabelSet, get_label_set

        labelSet = labelSet if isinstance(labelSet, LabelSet) else get_label_set(labelSet)
        isReadyMade = LABEL_SETS.get(labelSet.name) == labelSet
        with self._table.changed() as state:
            state["labels"] = labelSet.name if isReadyMade else labelSet.model_dump(mode="json")

    def fix(self, key: str, problem: Problem) -> Row:
        """Does what a problem offers; the user's own nodes stay as they are, the row continues with copies.

        `harden`: copies of what lies under a transform, with the transform made part of them. `resample`: a copy of the
        labels on the grid of the volume. `map`: what the user said of the segments is forgotten, and told anew from
        names and codes.

        Raises:
            ValueError: If the problem offers nothing, or it cannot be done.
        """
        row = self.row(key)
        if problem.fix == "harden":
            self._harden(row)
        elif problem.fix == "resample":
            copy = resampledCopy(row.segmentationNode, row.volumeNode)
            with self._table.changed() as state:
                self._replaceSegmentation(entryOf(state, key), copy)
        elif problem.fix == "map":
            self.setMapping(key, None)
        else:
            raise ValueError(_("This has to be fixed by hand: {text}").format(text=problem.text))
        return self.row(key)

    # ----- inside

    def _harden(self, row: Row) -> None:
        copies = {}
        try:
            for part, node in (("volume", row.volumeNode), ("segmentation", row.segmentationNode)):
                if node is not None and isTransformed(node):
                    copies[part] = hardenedCopy(node)
        except ValueError:
            for copy in copies.values():
                slicer.mrmlScene.RemoveNode(copy)
            raise
        with self._table.changed() as state:
            if "volume" in copies:
                self._table.refer("volume", row.key, copies["volume"])
            if "segmentation" in copies:
                self._replaceSegmentation(entryOf(state, row.key), copies["segmentation"])

    def _replaceSegmentation(self, entry: dict, node) -> None:
        """Another node, with segments of the same IDs."""
        self._table.refer("segmentation", entry["key"], node)
        entry["segmentation"] = node.GetName() if node is not None else ""

    def _setSegmentation(self, entry: dict, node, *, changeRole: bool) -> None:
        had = self._table.node("segmentation", entry["key"]) is not None
        self._replaceSegmentation(entry, node)
        entry["mapping"] = None
        if changeRole and node is not None and not had and entry["role"] == "unlabeled":
            entry["role"] = "labeled"
        elif changeRole and node is None and entry["role"] in ("labeled", "validation"):
            entry["role"] = "unlabeled"

    def _row(self, entry: dict, accepted: set[str]) -> Row:
        row = self._rowAsItIs(entry)
        gone = sum(key.partition("/")[0] == row.key for key in accepted)
        return replace(row, count=row.count - gone) if gone else row

    def _rowAsItIs(self, entry: dict) -> Row:
        """The row of an entry, of which there may be thousands: made once for each state of its nodes."""
        nodes = dict.fromkeys(_NODES)
        nodes |= {f"{part}Node": self._table.node(part, entry["key"]) for part in PARTS_OF[entry["kind"]]}
        state = (dict(entry), [node and (node.GetID(), node.GetMTime()) for node in nodes.values()])
        known = self._knownRows.get(entry["key"])
        if known is None or known[0] != state:
            row = rowOf(entry, *nodes.values())
            self._knownRows[entry["key"]] = (state, replace(row, **dict.fromkeys(nodes)))  # nodes may be deleted
            return row
        return replace(known[1], **nodes) if any(nodes.values()) else known[1]

    def _patients(self) -> Iterator[tuple[str, str]]:
        for entry in self._table.read()["rows"]:
            for each in filesOf(entry) or [entry]:
                yield each["patient"], entry["role"]

    def _knownFiles(self) -> set[tuple[Path, int | None]]:
        files = [file for entry in self._table.read()["rows"] for file in filesOf(entry)]
        return {(Path(file["image"]), file.get("frame")) for file in files}


def _checkSegmentation(node) -> None:
    if not (node.IsA("vtkMRMLSegmentationNode") or isLabelMap(node)):
        message = _("'{name}' is no segmentation. Choose a segmentation or a label map.")
        raise ValueError(message.format(name=node.GetName()))


def _checkOneOf(value: str, known: Sequence[str]) -> None:
    if value not in known:
        listed = ", ".join(f"'{each}'" for each in known)
        raise ValueError(_("There is no '{value}'. Choose one of {known}.").format(value=value, known=listed))
