"""`slicer.app.coreIOManager()`: what `slicer.util.loadVolume`, `loadScene`, `saveNode` and their kin go through."""

from __future__ import annotations

import shutil
from pathlib import Path

import slicer
import vtk

from .errors import HostError

_VOLUME_OPTIONS = {"labelmap": 1, "center": 2, "singleFile": 4, "autoWindowLevel": 8, "discardOrientation": 16}
_TYPES = (
    (("*.mrml", "*.mrb"), "SceneFile"),
    (("*.seq.nrrd", "*.seq.nhdr"), "SequenceFile"),
    (("*.nrrd", "*.nhdr", "*.nii", "*.nii.gz", "*.mha", "*.mhd", "*.dcm", "*.tif", "*.tiff", "*.png"), "VolumeFile"),
    (("*.csv", "*.tsv"), "TableFile"),
    (("*.txt", "*.json"), "TextFile"),
    (("*.ctbl",), "ColorTableFile"),
)
_CLASSES = {
    "SequenceFile": "vtkMRMLSequenceNode",
    "TableFile": "vtkMRMLTableNode",
    "TextFile": "vtkMRMLTextNode",
}


class CoreIOManager:
    """Loads and saves nodes of the scene with MRML's own storage."""

    def fileType(self, path: str) -> str:
        """Which kind of reader takes a file, by its name."""
        for patterns, kind in _TYPES:
            if any(Path(path).match(pattern) for pattern in patterns):
                return kind
        return "NoFile"

    def loadNodes(self, kind: str, properties: dict, nodes=None, messages=None) -> bool:
        """Load a file into the scene; the loaded nodes are added to a vtkCollection.

        Raises
        ------
        HostError
            A kind of file that the stand-in cannot load.
        """
        path = str(properties["fileName"])
        if kind == "SceneFile":
            return _load_scene(path, properties.get("clear", False), messages)
        if kind == "VolumeFile":
            node = _load_volume(path, properties)
        elif kind in _CLASSES:
            node = _load_storable(path, _CLASSES[kind], properties)
        else:
            raise HostError(f"the stand-in cannot load {path}: kind of file {kind}")
        if node is None:
            if messages is not None:
                messages.AddMessage(vtk.vtkCommand.ErrorEvent, f"Could not read {path}")
            return False
        if nodes is not None:
            nodes.AddItem(node)
        return True

    def fileWriterFileType(self, node, _format: str = "") -> str:
        return node.GetNodeTagName()

    def saveNodes(self, kind: str, properties: dict, messages=None) -> bool:
        """Save a node, or the scene where the kind is SceneFile."""
        path = str(properties["fileName"])
        if kind == "SceneFile":
            return _save_scene(path, messages)
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        if node.GetStorageNode() is None and not node.AddDefaultStorageNode():
            raise HostError(f"the stand-in has no storage for {node.GetClassName()}")
        storage = node.GetStorageNode()
        storage.SetFileName(path)
        if "useCompression" in properties:
            storage.SetUseCompression(properties["useCompression"])
        return bool(storage.WriteData(node))


def _load_volume(path: str, properties: dict):
    options = sum(bit for name, bit in _VOLUME_OPTIONS.items() if properties.get(name))
    files = None
    if "fileNames" in properties:
        files = vtk.vtkStringArray()
        for each in properties["fileNames"]:
            files.InsertNextValue(str(each))
    name = properties.get("name") or Path(path).name.split(".")[0]
    node = slicer.modules.volumes.logic().AddArchetypeVolume(path, name, options, files)
    if node and properties.get("colorNodeID"):
        node.GetDisplayNode().SetAndObserveColorNodeID(properties["colorNodeID"])
    if node and properties.get("show", True):
        application = slicer.app.applicationLogic()
        selection = application.GetSelectionNode()
        if node.IsA("vtkMRMLLabelMapVolumeNode"):
            selection.SetActiveLabelVolumeID(node.GetID())
        else:
            selection.SetActiveVolumeID(node.GetID())
        application.PropagateVolumeSelection()
    return node


def _load_storable(path: str, class_name: str, properties: dict):
    node = slicer.mrmlScene.AddNewNodeByClass(class_name, properties.get("name") or Path(path).name.split(".")[0])
    node.AddDefaultStorageNode()
    node.GetStorageNode().SetFileName(path)
    if not node.GetStorageNode().ReadData(node):
        slicer.mrmlScene.RemoveNode(node)
        return None
    return node


def _load_scene(path: str, clear: bool, messages) -> bool:
    scene = slicer.mrmlScene
    if path.endswith(".mrb"):
        return bool(scene.ReadFromMRB(path, clear, messages))
    scene.SetURL(path)
    return bool(scene.Connect(messages) if clear else scene.Import(messages))


def _save_scene(path: str, messages) -> bool:
    scene = slicer.mrmlScene
    if path.endswith(".mrb"):
        return bool(scene.WriteToMRB(path, None, messages))
    if path.endswith(".mrml"):
        scene.SetURL(path)
        scene.SetRootDirectory(str(Path(path).parent))
        return bool(scene.Commit(path, messages))
    shutil.rmtree(path, ignore_errors=True)
    Path(path).mkdir(parents=True)
    return bool(slicer.app.applicationLogic().SaveSceneToSlicerDataBundleDirectory(path, None, messages))
