"""The curves and the validation slice of one run in the views, which follow the run's folder."""

from pathlib import Path

import slicer
from IPv2Lib.training.run_folder import RUNNING, validation_slice

from .Runs import Runs


class Curves:
    """Puts the nodes of a wanted run into the scene as soon as the run is there, and keeps them up to date.

    Examples
    --------
    >>> curves = Curves()
    >>> curves.want(Path("dataset/runs/ipv2-1"))
    >>> curves.follow(runs)  # every second
    """

    def __init__(self):
        self._folder: Path | None = None
        self._nodes = None  # IPv2SlicerLib.scene.training_nodes.RunNodes
        self._shown: tuple = ()  # what the nodes show
        self._isRunning = False

    @property
    def live(self) -> bool:
        """Whether the run that is shown is being trained."""
        return self._folder is not None and self._isRunning

    def want(self, folder: Path) -> None:
        """Show this run from now on."""
        self._folder, self._nodes, self._shown, self._isRunning = folder, None, (), True

    def forget(self) -> None:
        """Follow nothing any more; what is in the scene stays."""
        self._folder, self._nodes, self._shown, self._isRunning = None, None, (), False

    def follow(self, runs: Runs) -> None:
        """Show what has changed. Whoever removes the nodes, or closes the scene, is not given them again."""
        if self._folder is None:
            return
        run = runs.read(self._folder)
        if run is None:  # it has not begun
            return
        from IPv2SlicerLib.scene import training_nodes

        self._isRunning = run.state == RUNNING
        now = run.state, run.step, len(run.log["step"]), len(run.validation["step"])
        if self._nodes is not None and not self._nodes.present:
            self.forget()
        elif self._nodes is None:
            self._nodes = training_nodes.add_run(slicer.mrmlScene, run, validation_slice(self._folder))
            training_nodes.show_run(self._nodes)
            self._shown = now
        elif now != self._shown:
            hadImages = bool(self._nodes.images)
            training_nodes.update_run(self._nodes, run, validation_slice(self._folder))
            if self._nodes.images and not hadImages and _isTrainingLayout():
                training_nodes.show_run(self._nodes)
            self._shown = now


def _isTrainingLayout() -> bool:
    from IPv2SlicerLib.scene.layouts import training_layout

    node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    return node is not None and node.GetViewArrangement() == training_layout().number
