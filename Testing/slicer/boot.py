"""A stand-in for the parts of Slicer's application that slicer-core lacks: `slicer.app`, `slicer.modules`, a scene.

The nodes and the logics are Slicer's own; only what joins them, which in Slicer is written with Qt, is made here. It
covers what `slicer.util` asks for in our code and tests, and nothing of the user interface.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import slicer
import slicer.util
import vtk

_LOGICS = {
    "Colors": slicer.vtkMRMLColorLogic,
    "Volumes": slicer.vtkSlicerVolumesLogic,
    "Terminologies": slicer.vtkSlicerTerminologiesModuleLogic,
    "SubjectHierarchy": slicer.vtkSlicerSubjectHierarchyModuleLogic,
    "Segmentations": slicer.vtkSlicerSegmentationsModuleLogic,
    "Sequences": slicer.vtkSlicerSequencesLogic,
    "Plots": slicer.vtkSlicerPlotsLogic,
    "Tables": slicer.vtkSlicerTablesLogic,
}

_FILE_TYPES = {
    "VolumeFile": ("vtkMRMLVolumeArchetypeStorageNode", "vtkMRMLScalarVolumeNode"),
    "SegmentationFile": ("vtkMRMLSegmentationStorageNode", "vtkMRMLSegmentationNode"),
    "SequenceFile": ("vtkMRMLVolumeSequenceStorageNode", "vtkMRMLSequenceNode"),
}


class CoreIOManager:
    """Loads and saves nodes and scenes, as far as the functions of `slicer.util` need it."""

    def fileType(self, fileName) -> str:
        name = str(fileName).lower()
        if name.endswith((".mrb", ".mrml")):
            return "SceneFile"
        if name.endswith(".seg.nrrd"):
            return "SegmentationFile"
        return "SequenceFile" if name.endswith(".seq.nrrd") else "VolumeFile"

    def fileWriterFileType(self, node) -> str:
        return node.GetClassName()

    def loadNodes(self, fileType, properties, loaded, messages=None) -> bool:
        fileName = properties["fileName"]
        if fileType == "SceneFile":
            return self._loadScene(fileName, properties.get("clear", False))
        storageClass, nodeClass = _FILE_TYPES[fileType]
        if properties.get("labelmap"):
            nodeClass = "vtkMRMLLabelMapVolumeNode"
        name = properties.get("name") or Path(fileName).name.split(".")[0]
        node = slicer.mrmlScene.AddNewNodeByClass(nodeClass, name)
        storage = slicer.mrmlScene.AddNewNodeByClass(storageClass)
        storage.SetFileName(fileName)
        if not storage.ReadData(node):
            slicer.mrmlScene.RemoveNode(storage)
            slicer.mrmlScene.RemoveNode(node)
            return False
        node.SetAndObserveStorageNodeID(storage.GetID())
        if hasattr(node, "CreateDefaultDisplayNodes"):
            node.CreateDefaultDisplayNodes()
        loaded.AddItem(node)
        return True

    def saveNodes(self, fileType, properties, messages=None) -> bool:
        fileName = str(properties["fileName"])
        if fileType == "SceneFile":
            return self._saveScene(fileName)
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        node.AddDefaultStorageNode()
        node.GetStorageNode().SetFileName(fileName)
        return bool(node.GetStorageNode().WriteData(node))

    @staticmethod
    def _loadScene(fileName: str, clear: bool) -> bool:
        scene = slicer.mrmlScene
        if fileName.endswith(".mrb"):
            return bool(scene.ReadFromMRB(fileName, clear))
        scene.SetURL(fileName)
        return bool(scene.Connect() if clear else scene.Import())

    @staticmethod
    def _saveScene(fileName: str) -> bool:
        scene = slicer.mrmlScene
        return bool(scene.WriteToMRB(fileName) if fileName.endswith(".mrb") else scene.Commit(fileName))


def boot():
    """Gives `slicer` a new scene with the logics of the modules, and an application; returns the application."""
    scene = slicer.vtkMRMLScene()
    temporaryPath = tempfile.mkdtemp(prefix="slicer-core-")
    applicationLogic = slicer.vtkSlicerApplicationLogic()
    applicationLogic.SetMRMLScene(scene)
    applicationLogic.SetTemporaryPath(temporaryPath)
    applicationLogic.GetColorLogic().SetMRMLScene(scene)
    scene.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())
    applicationLogic.GetColorLogic().AddDefaultColorNodes()

    # Scenes are read from .mrb files through a cache, even where nothing is remote.
    remoteIO = slicer.vtkMRMLRemoteIOLogic()
    remoteIO.SetMRMLScene(scene)
    remoteIO.SetMRMLApplicationLogic(applicationLogic)
    os.makedirs(f"{temporaryPath}/cache")
    remoteIO.GetCacheManager().SetRemoteCacheDirectory(f"{temporaryPath}/cache")
    dataIO = slicer.vtkDataIOManagerLogic()
    dataIO.SetMRMLScene(scene)
    dataIO.SetMRMLApplicationLogic(applicationLogic)
    dataIO.SetAndObserveDataIOManager(remoteIO.GetDataIOManager())
    remoteIO.AddDataIOToScene()

    modules = {}
    for name, logicClass in _LOGICS.items():
        logic = logicClass()
        # slicer-core lacks the default terminologies, and says so several times.
        vtk.vtkObject.SetGlobalWarningDisplay(name != "Terminologies")
        logic.SetMRMLScene(scene)
        vtk.vtkObject.SetGlobalWarningDisplay(True)
        logic.SetMRMLApplicationLogic(applicationLogic)
        applicationLogic.SetModuleLogic(name, logic)
        modules[name.lower()] = SimpleNamespace(name=name, path=None, logic=lambda logic=logic: logic)

    ioManager = CoreIOManager()
    slicer.mrmlScene = scene
    slicer.modules = SimpleNamespace(**modules)
    slicer.app = SimpleNamespace(
        applicationName="slicer-core",
        applicationLogic=lambda: applicationLogic,
        coreIOManager=lambda: ioManager,
        moduleManager=lambda: SimpleNamespace(module=lambda name: modules.get(name.lower())),
        temporaryPath=temporaryPath,
        startupEnvironment=lambda: SimpleNamespace(keys=lambda: list(os.environ), value=os.environ.get),
        testingEnabled=lambda: True,
        layoutManager=lambda: None,
        processEvents=lambda: None,
        pauseRender=lambda: None,
        resumeRender=lambda: None,
        connect=lambda *arguments: None,
        keptAlive=(remoteIO, dataIO),
    )
    return slicer.app
