"""Scene, files, subject hierarchy and sample data in the stand-in."""

import numpy as np
import pytest
from host import HostError
from IPv2Lib.io import files
from IPv2Lib.io.volume import Volume
from IPv2SlicerLib.scene import volume_nodes


@pytest.fixture
def volume() -> Volume:
    return Volume(np.arange(60, dtype=np.int16).reshape(3, 4, 5), (0.7, 0.8, 2.0), (1.0, 2.0, 3.0))


def test_application_and_scene_belong_together(host):
    import slicer

    assert slicer.app.mrmlScene() is slicer.mrmlScene is slicer.app.applicationLogic().GetMRMLScene()
    assert volume_nodes.scene() is slicer.mrmlScene
    assert slicer.app.majorVersion == 5
    assert slicer.modules.volumes.logic().GetClassName() == "vtkSlicerVolumesLogic"
    assert slicer.mrmlScene.GetNodeByID("vtkMRMLColorTableNodeGrey") is not None


@pytest.mark.parametrize("file", ["scene.mrb", "scene.mrml", "folder"])
def test_a_scene_is_saved_cleared_and_loaded(host, volume, tmp_path, file):
    import slicer

    volume_nodes.volume_to_node(volume, "scan")
    events = []
    for name in ("StartCloseEvent", "EndCloseEvent", "StartImportEvent", "EndImportEvent"):
        slicer.mrmlScene.AddObserver(getattr(slicer.mrmlScene, name), lambda *_, name=name: events.append(name))
    if file == "scene.mrml":
        slicer.util.saveNode(slicer.util.getNode("scan"), str(tmp_path / "scan.nrrd"))
    assert slicer.util.saveScene(str(tmp_path / file))
    slicer.mrmlScene.Clear()
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == []
    path = next((tmp_path / file).glob("*.mrml")) if file == "folder" else tmp_path / file
    slicer.util.loadScene(str(path))
    assert events == ["StartCloseEvent", "EndCloseEvent", "StartImportEvent", "EndImportEvent"]
    assert (volume_nodes.node_to_volume(slicer.util.getNode("scan")).array == volume.array).all()


def test_volumes_are_loaded_and_saved(host, volume, tmp_path):
    import slicer

    node = slicer.util.loadVolume(str(files.write(volume, tmp_path / "a.nrrd")), {"name": "given"})
    assert node.GetName() == "given"
    assert slicer.util.saveNode(node, str(tmp_path / "b.nrrd"))
    assert (files.read(tmp_path / "b.nrrd").array == volume.array).all()
    assert node.GetStorageNode().GetFileName() == str(tmp_path / "b.nrrd")
    with pytest.raises(RuntimeError, match="Failed to load"):
        slicer.util.loadVolume(str(tmp_path / "missing.nrrd"))


def test_unknown_files_are_refused(host, tmp_path):
    import slicer

    with pytest.raises(HostError, match="kind of file"):
        slicer.util.loadModel(str(tmp_path / "a.vtk"))


def test_data_nodes_have_items_in_the_subject_hierarchy(host, volume):
    import slicer

    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    node = volume_nodes.volume_to_node(volume, "scan")
    assert hierarchy.GetItemByDataNode(node)
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == hierarchy.GetSceneItemID()
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
    parameters = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    hidden = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScalarVolumeNode")
    hidden.UnRegister(None)
    hidden.SetHideFromEditors(True)
    slicer.mrmlScene.AddNode(hidden)
    assert [bool(hierarchy.GetItemByDataNode(each)) for each in (table, parameters, hidden)] == [True, False, False]
    slicer.mrmlScene.RemoveNode(node)
    names = [hierarchy.GetItemName(item) for item in slicer.util.getSubjectHierarchyItemChildren()]
    assert names == ["Table"]


def test_scripted_plugins_offer_actions(host, volume, tmp_path):
    import slicer

    (tmp_path / "HostMenuSubjectHierarchyPlugin.py").write_text(
        """
import qt, slicer
from SubjectHierarchyPlugins import *

class HostMenuSubjectHierarchyPlugin(AbstractScriptedSubjectHierarchyPlugin):
    chosen = []
    def __init__(self, scriptedPlugin):
        scriptedPlugin.name = "HostMenu"
        AbstractScriptedSubjectHierarchyPlugin.__init__(self, scriptedPlugin)
        self.action = qt.QAction("Do it", scriptedPlugin)
        self.action.triggered.connect(self.onAction)
    def itemContextMenuActions(self):
        return [self.action]
    def showContextMenuActionsForItem(self, itemID):
        node = slicer.mrmlScene.GetSubjectHierarchyNode().GetItemDataNode(itemID)
        self.action.setVisible(node.IsA("vtkMRMLScalarVolumeNode"))
    def onAction(self):
        self.chosen.append(slicer.qSlicerSubjectHierarchyPluginHandler.instance().currentItem())
"""
    )
    plugin = slicer.qSlicerSubjectHierarchyScriptedPlugin(None)
    assert plugin.setPythonSource(str(tmp_path / "HostMenuSubjectHierarchyPlugin.py"))
    with pytest.raises(AttributeError, match="setName"):
        plugin.setName("other")
    node = volume_nodes.volume_to_node(volume, "scan")
    assert host.context_menu(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")) == []
    assert host.context_menu(node) == ["Do it"]
    host.choose_from_context_menu(node, "Do it")
    assert plugin.self().chosen == [slicer.mrmlScene.GetSubjectHierarchyNode().GetItemByDataNode(node)]


def test_sample_data_is_registered_and_loaded(host, volume, tmp_path):
    import SampleData

    logic = SampleData.SampleDataLogic()
    path = files.write(volume, tmp_path / "scan.nrrd")
    made = []
    for _ in range(2):
        logic.registerCustomSampleDataSource(
            category="Tests", sampleName="File", uris=path.as_uri(), fileNames="scan.nrrd", nodeNames="scan"
        )
    logic.registerCustomSampleDataSource(
        category="Tests", sampleName="Made", uris="", fileNames="", nodeNames="", customDownloader=made.append
    )
    assert [each.sampleName for each in logic.sampleDataSourcesByCategory("Tests")] == ["File", "Made"]
    assert logic.downloadSample("File").GetName() == "scan"
    host.load_sample("Made")
    assert [each.sampleName for each in made] == ["Made"]
    with pytest.raises(HostError, match="'Other'"):
        host.load_sample("Other")
    with pytest.raises(ValueError, match="same length"):
        logic.registerCustomSampleDataSource(sampleName="Wrong", uris=["a", "b"], fileNames=["a"], nodeNames=["a", "b"])
