"""What is folded under *Look and measure*: one view, three planes, flipping between the parts of a result, windows."""

from collections.abc import Callable
from functools import partial

import qt
import slicer
from IPv2Lib.hounsfield import WINDOWS
from IPv2SlicerLib.widgets.Section import Section
from IPv2SlicerLib.widgets.Shortcuts import Shortcuts
from IPv2SlicerLib.widgets.Views import currentSliceIndex
from slicer.i18n import tr as _

from .Logic import IPv2DenoiseLogic
from .Results import resultOf

UNFOLDED_SETTING = "IPv2/LookUnfolded"
"""Of the user's settings: who looks that way every day finds it open."""
FLIP_KEY, DIFFERENCE_KEY = "X", "D"
WINDOW_KEYS = {str(number): name for number, name in enumerate(WINDOWS, 1)}
"""Keys and the names of the windows that they choose."""


class LookingSection(Section):
    """Connects the widgets of the section with the scene's views.

    Parameters
    ----------
    ui : object
        The widgets of the .ui file by name.
    logic : IPv2DenoiseLogic
    """

    def __init__(self, ui, logic: IPv2DenoiseLogic):
        super().__init__(ui, logic)
        self._before = "denoised"  # what was shown before the difference
        unfolded = slicer.util.settingsValue(UNFOLDED_SETTING, False, converter=slicer.util.toBool)
        ui.lookCollapsibleButton.setProperty("collapsed", not unfolded)
        ui.lookCollapsibleButton.contentsCollapsed.connect(self._onFolded)
        self._ways = {"one": ui.oneViewButton, "planes": ui.planesButton}
        self._parts = {
            "input": ui.lookInputButton,
            "denoised": ui.lookResultButton,
            "difference": ui.lookDifferenceButton,
        }
        windows = {"Lung": ui.lungButton, "Mediastinum": ui.mediastinumButton, "Bone": ui.boneButton}
        for key, name in WINDOW_KEYS.items():
            width, level = WINDOWS[name]
            tip = _("Show all views in this window: width {width} HU, level {level} HU (key {key}).")
            windows[name].setToolTip(tip.format(width=f"{width:g}", level=f"{level:g}".replace("-", "−"), key=key))
        for choices, act in ((self._ways, self._onWay), (self._parts, self._showPart), (windows, self.showWindow)):
            for choice, button in choices.items():
                self._onClick(button, partial(act, choice))
        keys = {FLIP_KEY: self.flip, DIFFERENCE_KEY: self.flipDifference}
        keys |= {key: partial(self.showWindow, name) for key, name in WINDOW_KEYS.items()}
        heard = {key: partial(self._act, act) for key, act in keys.items()}
        self._shortcuts = Shortcuts(heard, ui.oneViewButton, repeats=False)
        self._watchScene(self._update)

    def parametersChanged(self) -> None:
        """Follow a change of any parameter: there may be another input."""
        self._update()

    def layoutChanged(self) -> None:
        """Another layout of views is shown."""
        self._update()

    def enter(self) -> None:
        """The module is opened."""
        super().enter()
        self._update()
        self._shortcuts.setEnabled(True)

    def exit(self) -> None:
        """Another module is opened: its keys are its own."""
        self._shortcuts.setEnabled(False)

    def cleanup(self) -> None:
        """The widget goes away."""
        super().cleanup()
        self._shortcuts.close()

    # --- what keys do ---

    def flip(self) -> None:
        """Show the input instead of the result, or the result again; open one view where neither is shown so."""
        self._showPart("input" if self._shown() == "denoised" else "denoised")

    def flipDifference(self) -> None:
        """Show the difference, or again what was shown before it."""
        part = self._shown()
        if part == "difference":
            self._showPart(self._before)
            return
        self._before = part or "denoised"
        self._showPart("difference")

    def showWindow(self, name: str) -> None:
        """Show input, result and what else is in the views in one of the windows."""
        from IPv2SlicerLib.scene import looking

        nodes = self._nodes()
        own = list(looking.parts(nodes).values()) if nodes else []
        looking.show_in_window(name, [*own, *looking.volumes_in_views(slicer.mrmlScene)])

    # --- the rest ---

    def _onFolded(self, folded: bool) -> None:
        qt.QSettings().setValue(UNFOLDED_SETTING, not folded)

    def _act(self, act: Callable[[], None]) -> None:
        with self._boxes.errorsShown():
            act()

    def _nodes(self):
        """The newest result of the chosen input, or None."""
        return self._parameterNode and resultOf(self._parameterNode.inputVolume)

    def _shown(self) -> str | None:
        from IPv2SlicerLib.scene import looking

        nodes = self._nodes()
        return looking.part_of(nodes) if nodes else None

    def _onWay(self, way: str) -> None:
        from IPv2SlicerLib.scene import layout_node, looking

        if looking.way_of(slicer.mrmlScene) == way and self._shown():
            layout_node.restore_layout(slicer.mrmlScene)
        else:
            self._look(way, self._shown() or "denoised")
        self._update()

    def _showPart(self, part: str) -> None:
        from IPv2SlicerLib.scene import looking

        nodes = self._nodes()
        if nodes and looking.part_of(nodes):
            looking.flip(nodes, part)
        else:
            self._look("one", part)
        self._update()

    def _look(self, way: str, part: str) -> None:
        """At the slice that is shown now."""
        from IPv2SlicerLib.scene import looking

        nodes = self._nodes()
        if nodes:
            volume = looking.parts(nodes).get("denoised")
            looking.look(nodes, way, part, slice_index=volume and currentSliceIndex(volume))

    def _update(self) -> None:
        """Let the buttons say what is shown, and which of them can be used."""
        from IPv2SlicerLib.scene import looking

        nodes, part = self._nodes(), self._shown()
        way = looking.way_of(slicer.mrmlScene) if part else None
        lacking = "" if nodes else _("Denoise first: there is no result yet.")
        for choices, chosen in ((self._ways, way), (self._parts, part)):
            for choice, button in choices.items():
                self._allow(button, lacking)
                button.setChecked(choice == chosen)
