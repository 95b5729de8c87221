"""Spheres on nodules, folded under *Look and measure*: placing them, and what they hold in input and result."""

import html
import math
from collections.abc import Sequence

import qt
import slicer
from IPv2SlicerLib.widgets.Section import Section
from IPv2SlicerLib.widgets.Shortcuts import Shortcuts
from slicer.i18n import tr as _

from .Logic import IPv2DenoiseLogic
from .Results import resultOf

PLACE_KEY = "M"
SETTLE_MSEC = 30
"""A sphere that is dragged says many places; the numbers follow when it has been still for so long."""


class MeasuringSection(Section):
    """Connects the widgets of the section with the spheres of the scene.

    Parameters
    ----------
    ui : object
        The widgets of the .ui file by name.
    logic : IPv2DenoiseLogic
    """

    def __init__(self, ui, logic: IPv2DenoiseLogic):
        super().__init__(ui, logic)
        self._diameter = None  # what the panel says of the sphere placed last
        self._tags: list[tuple] = []  # nodes that are observed, and the observers' tags
        self._measured: list = []
        self._settled = self._timer(SETTLE_MSEC, self._measure)
        self._onClick(ui.placeSphereButton, self._place)
        self._onClick(ui.copySpheresButton, self._copy)
        self._onClick(ui.removeSpheresButton, self._remove)
        self._shortcuts = Shortcuts({PLACE_KEY: self._pressPlace}, ui.placeSphereButton, repeats=False)
        self._watchScene(self._follow)
        self._show([])

    def setParameterNode(self, parameterNode) -> None:
        """Use a parameter node, or none while the module is not shown."""
        self._diameter = parameterNode and parameterNode.sphereDiameterMm
        super().setParameterNode(parameterNode)

    def parametersChanged(self) -> None:
        """Follow a change of any parameter: another input has other spheres, another diameter is for the last one."""
        from IPv2SlicerLib.scene import spheres

        parameters = self._parameterNode
        self._allow(self._ui.placeSphereButton, "" if self._input() else _("Choose a volume first."))
        if parameters and parameters.sphereDiameterMm != self._diameter:
            self._diameter = parameters.sphereDiameterMm
            for node in spheres.spheres_of(self._input())[-1:]:
                spheres.set_diameter(node, self._diameter)
        self._follow()

    def enter(self) -> None:
        """The module is opened."""
        super().enter()
        self._shortcuts.setEnabled(True)

    def exit(self) -> None:
        """Another module is opened."""
        from IPv2SlicerLib.scene import spheres

        self._shortcuts.setEnabled(False)
        spheres.remove_unplaced(self._input())

    def cleanup(self) -> None:
        """The widget goes away."""
        super().cleanup()
        self._shortcuts.close()
        self._observe([])

    def _input(self):
        return self._parameterNode and self._parameterNode.inputVolume

    def _follow(self, caller=None, event=None) -> None:
        self._settled.start()

    def _pressPlace(self) -> None:
        self._ui.placeSphereButton.click()

    def _place(self) -> None:
        from IPv2SlicerLib.scene import spheres

        node = spheres.add_sphere(self._input(), self._parameterNode.sphereDiameterMm)
        spheres.place(node)

    def _remove(self) -> None:
        from IPv2SlicerLib.scene import spheres

        for node in spheres.spheres_of(self._input()):
            slicer.mrmlScene.RemoveNode(node)

    def _copy(self) -> None:
        qt.QApplication.clipboard().setText(measuredText(self._measured))
        slicer.util.showStatusMessage(_("Copied: a table of {n} spheres").format(n=len(self._measured)), 3000)

    def _measure(self) -> None:
        """Measure the spheres of the input, and follow whatever would change the numbers."""
        from IPv2SlicerLib.scene import spheres
        from IPv2SlicerLib.scene.sequences import shown

        node = self._input()
        nodes = resultOf(node)
        if not node:
            self._observe([])
            self._show([])
            return
        volumes = [shown(node), nodes and shown(nodes.denoised)]
        self._observe([*filter(None, volumes), *spheres.all_spheres(node)])
        self._show(spheres.measure(node, nodes))

    def _observe(self, nodes: Sequence) -> None:
        if [node for node, tags in self._tags] == list(nodes):
            return
        for node, tags in self._tags:
            for tag in tags:
                node.RemoveObserver(tag)
        self._tags = []
        for node in nodes:
            if node.IsA("vtkMRMLVolumeNode"):
                events = [slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent]
            else:
                events = [slicer.vtkMRMLMarkupsNode.PointModifiedEvent, slicer.vtkMRMLMarkupsNode.PointRemovedEvent]
                events.append(slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent)
            self._tags.append((node, [node.AddObserver(event, self._follow) for event in events]))

    def _show(self, measured: list) -> None:
        ui, self._measured = self._ui, measured
        ui.sphereTable.setText(measuredHtml(measured) if measured else "")
        for widget in (ui.sphereTable, ui.copySpheresButton, ui.removeSpheresButton):
            widget.setVisible(bool(measured))


def measuredHtml(measured: Sequence) -> str:
    """Spheres for a panel: a line for the input and one for the result.

    Parameters
    ----------
    measured : sequence of IPv2SlicerLib.scene.spheres.Measured
    """
    heads = (_("Mean"), "σ", _("Contrast"), _("mm³"))
    lines = [_line("th", (_("Sphere"), "", *heads))]
    for each in measured:
        size = f"{each.diameter_mm:g} mm"
        lines.append(_line("td", (each.node.GetName(), _("Input"), *_numbers(each.before, (0, 1, 0, 0)))))
        lines.append(_line("td", (size, _("Result"), *_numbers(each.after, (0, 1, 0, 0)))))
    return f"<table width='100%' cellspacing='0' cellpadding='2'>{''.join(lines)}</table>"


def measuredText(measured: Sequence) -> str:
    """The same for a spreadsheet: columns between tabulators, with places in mm; an empty cell is not measurable."""
    heads = (
        _("Sphere"), _("Diameter (mm)"), "R (mm)", "A (mm)", "S (mm)", _("Image"), _("Mean (HU)"), _("σ (HU)"),
        _("Contrast (HU)"), _("Volume above half contrast (mm³)"),
    )  # fmt: skip
    lines = [heads]
    for each in measured:
        position = [0.0, 0.0, 0.0]
        each.node.GetNthControlPointPositionWorld(0, position)
        sphere = (each.node.GetName(), f"{each.diameter_mm:g}", *(f"{mm:.1f}" for mm in position))
        lines.append((*sphere, _("Input"), *_numbers(each.before, (1, 1, 1, 1), "")))
        lines.append((*sphere, _("Result"), *_numbers(each.after, (1, 1, 1, 1), "")))
    return "\n".join("\t".join(line) for line in lines) + "\n"


def _line(tag: str, texts: Sequence[str]) -> str:
    """A row of a table: the first two texts at their left, the numbers after them at their right."""
    sides = ("left", "left", *["right"] * (len(texts) - 2))
    texts = (*texts[:2], *(text.replace("-", "−") for text in texts[2:]))
    cells = (f"<{tag} align='{side}'>{html.escape(text)}</{tag}>" for side, text in zip(sides, texts, strict=True))
    return f"<tr>{''.join(cells)}</tr>"


def _numbers(found, decimals: Sequence[int], nothing: str = "–") -> list[str]:
    """Mean, σ, contrast and volume as texts."""
    if found is None:
        return [nothing] * len(decimals)
    values = (found.mean_hu, found.sigma_hu, found.contrast_hu, found.volume_mm3)
    return [
        nothing if math.isnan(value) else f"{value:.{places}f}" for value, places in zip(values, decimals, strict=True)
    ]
