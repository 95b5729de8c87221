"""What the tests of results share: small volumes, everything that a scene holds, a scene saved and loaded."""

import zipfile

import numpy as np
import pytest
from IPv2Lib.analysis.region_labels import Region
from IPv2Lib.analysis.region_statistics import RegionResponse, StrengthStatistics
from IPv2Lib.io.volume import Volume

slicer = pytest.importorskip("slicer", reason="MRML needs Slicer or its wheel: pip install slicer-core")
vtk = pytest.importorskip("vtk")

from IPv2SlicerLib.scene import volume_nodes  # noqa: E402
from IPv2SlicerLib.scene.changes import subject_hierarchy  # noqa: E402

STATISTICS = StrengthStatistics(
    (
        RegionResponse(Region.LUNG, 1000, -850.0, -846.0, 40.0, 20.0, 0.0),
        RegionResponse(Region.BONE, 3, 400.0, 401.0, float("nan"), float("nan"), float("nan")),
    )
)
PROVENANCE = {"model": "ipv2-fast", "strength": 0.1, "versions": {"torch": "2.2"}}


def new_scene():
    """A scene with what the application has beside it."""
    target = slicer.vtkMRMLScene()
    volume_nodes.application_logic(target)
    subject_hierarchy(target)
    return target


def pair(dtype=np.int16, shape=(4, 12, 16), seed=0) -> tuple[Volume, Volume]:
    """A noisy volume, and what a network would say."""
    rng = np.random.default_rng(seed)
    clean = np.linspace(-900, 100, np.prod(shape)).reshape(shape)
    noisy = clean + rng.normal(0, 60, shape)
    tilt = (1, 0, 0, 0, 0.8, -0.6, 0, 0.6, 0.8)
    volume = Volume(np.rint(noisy).astype(dtype), (0.7, 0.8, 2.5), (-12.0, 40.0, -300.0), tilt)
    return volume, volume.with_array(np.rint(clean).astype(dtype))


def array(node) -> np.ndarray:
    return volume_nodes.node_to_volume(node).array


def state(target) -> dict[str, object]:
    """Everything of a scene that its file would hold, images, tables and the tree."""
    found = {}
    for node in volume_nodes.nodes_of_class(target, "vtkMRMLNode"):
        if node.IsA("vtkMRMLSubjectHierarchyNode"):
            found["tree"] = tree_of(target)
            continue
        names = sorted(node.GetAttributeNames())
        references = {
            node.GetNthNodeReferenceRole(n): node.GetNodeReferenceID(node.GetNthNodeReferenceRole(n))
            for n in range(node.GetNumberOfNodeReferenceRoles())
        }
        facts = [node.GetName(), {name: node.GetAttribute(name) for name in names}]
        facts += [{role: node_id for role, node_id in references.items() if node_id}]
        if node.IsA("vtkMRMLScalarVolumeNode") and node.GetImageData():
            image = node.GetImageData()
            facts += [
                volume_nodes.node_array(node).tolist(),
                node.GetOrigin(),
                node.GetSpacing(),
                image.GetScalarType(),
            ]
        if node.IsA("vtkMRMLScalarVolumeDisplayNode"):
            facts += [node.GetWindow(), node.GetLevel(), node.GetColorNodeID()]
        if node.IsA("vtkMRMLTableNode"):
            facts += [table_rows(node)]
        found[node.GetID()] = facts
    return found


def tree_of(target) -> list:
    tree, items = subject_hierarchy(target), vtk.vtkIdList()
    tree.GetItemChildren(tree.GetSceneItemID(), items, True)
    ids = [items.GetId(n) for n in range(items.GetNumberOfIds())]
    return [(tree.GetItemName(item), tree.GetItemName(tree.GetItemParent(item))) for item in ids]


def table_rows(node) -> list[list[str]]:
    table = node.GetTable()
    return [
        [table.GetValue(row, column).ToString() for column in range(table.GetNumberOfColumns())]
        for row in range(table.GetNumberOfRows())
    ]


def save_and_load(target, folder):
    path = folder / "case.mrb"
    assert target.WriteToMRB(str(path), None)
    opened = slicer.vtkMRMLScene()
    volume_nodes.application_logic(opened)
    cache, data_io = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
    cache.SetRemoteCacheDirectory(str(folder / "cache"))  # where a sequence of tables, a scene of its own, is unpacked
    data_io.SetCacheManager(cache)
    opened.SetDataIOManager(data_io)
    opened.SetCacheManager(cache)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    opened.SetURL(str(next(folder.glob("*/*.mrml"))))
    assert opened.Connect()
    return opened
