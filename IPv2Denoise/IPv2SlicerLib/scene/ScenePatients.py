"""Who the volumes of the scene are of, by their place in Slicer's subject hierarchy: for both modules."""

import slicer
import vtk
from IPv2Lib.datasets.patients import hidden, patient_label


def patientOf(node) -> str:
    """The label of who a volume of the scene is of; empty if the subject hierarchy is silent.

    A patient that somebody made there by hand counts by name, and several of one name by their order.
    """
    label = _patient(node)
    return hidden(label) if label else ""


def whyNotOnePatient(ndctNode, uldctNode) -> str:
    """Why two volumes make no pair, because they are of two patients; empty if they do, or one does not say."""
    ndct, uldct = _patient(ndctNode), _patient(uldctNode)
    if not ndct or not uldct or ndct == uldct:
        return ""
    tree = slicer.mrmlScene.GetSubjectHierarchyNode()
    first, second = (tree.GetItemName(_item(tree, node)) for node in (ndctNode, uldctNode))
    if first == second:
        whose = f"are of two patients who are both called '{first}'"
    else:
        whose = f"are of two patients, '{first}' and '{second}'"
    return (
        f"the NDCT '{ndctNode.GetName()}' and the uLDCT '{uldctNode.GetName()}' {whose}: choose two scans of one "
        "patient, or put both under one in the module Data if they are"
    )


def _item(tree, node) -> int:
    """The patient's."""
    level = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelPatient()
    return tree.GetItemAncestorAtLevel(tree.GetItemByDataNode(node), level)


def _patient(node) -> str:
    """What tells the patient of a volume apart, see `patient_label`."""
    tree, constants = slicer.mrmlScene.GetSubjectHierarchyNode(), slicer.vtkMRMLSubjectHierarchyConstants
    patient = _item(tree, node)
    if patient == tree.GetInvalidItemID():
        return ""
    study = tree.GetItemAncestorAtLevel(tree.GetItemByDataNode(node), constants.GetDICOMLevelStudy())
    names = (
        constants.GetDICOMPatientIDAttributeName(),
        constants.GetDICOMPatientNameAttributeName(),
        constants.GetDICOMPatientBirthDateAttributeName(),
    )
    label = patient_label(
        *(tree.GetItemAttribute(patient, name) for name in names),
        "" if study == tree.GetInvalidItemID() else tree.GetItemUID(study, constants.GetDICOMUIDName()),
    )
    return label or _byHand(tree, patient)


def _byHand(tree, patient: int) -> str:
    items = vtk.vtkIdList()
    tree.GetItemChildren(tree.GetSceneItemID(), items, True)
    name = tree.GetItemName(patient)
    every = [items.GetId(index) for index in range(items.GetNumberOfIds())]
    level = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelPatient()
    alike = [each for each in every if tree.IsItemLevel(each, level) and tree.GetItemName(each) == name]
    place = alike.index(patient) + 1
    return name if place == 1 else f"{name} ({place})"
