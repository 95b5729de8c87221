"""The module's work without its panel: starts jobs, and puts their results into the scene.

Importing this file must stay cheap, Slicer does it when it starts: what needs numpy comes in with the first job.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import slicer
from IPv2Lib.errors import InputError
from IPv2SlicerLib.Jobs import Jobs
from IPv2SlicerLib.Packages import ensurePackages
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from .Messages import TITLE
from .Parameters import IPv2DenoiseParameterNode


@dataclass(frozen=True)
class _Options:
    """How to denoise; model None is the default one."""

    strength: float
    model: str | None
    device: str
    keepOutsideBody: bool
    keptNoiseHu: float | None
    selfEnsemble: bool


class IPv2DenoiseLogic(Jobs, ScriptedLoadableModuleLogic):
    """Denoises and purifies in another process, with or without the panel.

    Every method that starts a job takes `onProgress`, `onFinished` and `wait`, see `Jobs`. Its `jobKind` is
    "denoise", "purify", "preview", "sample pair" or "devices".

    Examples
    --------
    >>> from IPv2Denoise import IPv2DenoiseLogic
    >>> nodes = IPv2DenoiseLogic().denoise(slicer.util.getNode("CTChest"), strength=0.8)
    >>> nodes.denoised.GetName()
    'CTChest denoised'
    """

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        Jobs.__init__(self, lambda: ensurePackages(TITLE))

    def getParameterNode(self) -> IPv2DenoiseParameterNode:
        """The parameter node of the scene, made if there is none."""
        return IPv2DenoiseParameterNode(super().getParameterNode())

    # --- denoising ---

    def denoise(
        self,
        inputNode,
        outputNode: vtkMRMLScalarVolumeNode | None = None,
        strength: float = 1.0,
        model: str | None = None,
        device: str = "auto",
        keepOutsideBody: bool = False,
        keptNoiseHu: float | None = None,
        selfEnsemble: bool = False,
        onProgress: Callable[[float, str], None] | None = None,
        onFinished: Callable[[Any], None] | None = None,
        wait: bool = True,
    ):
        """Denoise a volume, or every frame of a sequence.

        Parameters
        ----------
        inputNode : vtkMRMLScalarVolumeNode or vtkMRMLSequenceNode
            Chest CT in HU; it is not changed.
        outputNode : vtkMRMLScalarVolumeNode, optional
            Receives the result; default: a new volume. Not for sequences.
        strength : float
            0 (the input) to 1 (all noise removed that the model finds).
        model : str, optional
            Name of a model; default: the one for the device.
        device : str
            "auto", "cpu", "cuda", "cuda:1" or "mps".
        keepOutsideBody : bool
            HU outside the body come back exactly.
        keptNoiseHu : float, optional
            Noise (σ) that is left for its texture, from 0; default: as the card of the model says.
        selfEnsemble : bool
            Mean of the results for slices turned and mirrored in eight ways: a little less error, eight times as long.
        onProgress, onFinished, wait
            See `Jobs`.

        Returns
        -------
        IPv2Lib.scene_denoised.DenoisedNodes, or the new vtkMRMLSequenceNode; None without `wait`

        Raises
        ------
        IPv2Lib.errors.InputError
            The input cannot be used, a parameter is out of range, or a job is running.
        """
        from IPv2Lib import scene_denoised

        options = _Options(strength, model, device, keepOutsideBody, keptNoiseHu, selfEnsemble)
        if inputNode is None or not inputNode.IsA("vtkMRMLSequenceNode"):
            results = self._denoise([inputNode], [outputNode], options, onProgress, _first(onFinished), wait)
            return results and results[0]

        if outputNode is not None:
            raise InputError("a sequence cannot be written into one volume: leave the output empty")

        def finish(results) -> Any:
            self._checkPresent(inputNode)
            return scene_denoised.add_denoised_sequence(
                inputNode, [one.networkOutput for one in results], strength, results[0].provenance
            )

        self.runner.refuse_if_active()
        volumes = _volumes(scene_denoised.frames(inputNode))
        return self._startDenoising(inputNode.GetName(), volumes, finish, options, onProgress, onFinished, wait)

    def denoiseVolumes(
        self,
        inputNodes: Sequence[vtkMRMLScalarVolumeNode],
        strength: float = 1.0,
        model: str | None = None,
        device: str = "auto",
        keepOutsideBody: bool = False,
        keptNoiseHu: float | None = None,
        selfEnsemble: bool = False,
        onProgress: Callable[[float, str], None] | None = None,
        onFinished: Callable[[Any], None] | None = None,
        wait: bool = True,
    ):
        """Denoise several volumes in a row: like `denoise` of each, but the model is loaded once.

        Returns
        -------
        list of IPv2Lib.scene_denoised.DenoisedNodes, in the order of the inputs; None without `wait`
        """
        options = _Options(strength, model, device, keepOutsideBody, keptNoiseHu, selfEnsemble)
        return self._denoise(list(inputNodes), [None] * len(inputNodes), options, onProgress, onFinished, wait)

    def _denoise(self, inputNodes, outputNodes, options, onProgress, onFinished, wait):
        from IPv2Lib import scene_denoised

        self.runner.refuse_if_active()
        for node in outputNodes:
            if node is not None and node in inputNodes:
                raise InputError(f"the output '{node.GetName()}' is the input: choose another, inputs are not changed")
        volumes = _volumes(inputNodes)

        def finish(results) -> list[scene_denoised.DenoisedNodes]:
            self._checkPresent(*inputNodes, *(node for node in outputNodes if node))
            return [
                scene_denoised.add_denoised(
                    inputNode,
                    one.networkOutput,
                    options.strength,
                    one.statistics,
                    one.provenance,
                    output_node=outputNode,
                    blended=one.blended,
                )
                for inputNode, one, outputNode in zip(inputNodes, results, outputNodes, strict=True)
            ]

        name = inputNodes[0].GetName() if len(inputNodes) == 1 else _("{n} volumes").format(n=len(inputNodes))
        return self._startDenoising(name, volumes, finish, options, onProgress, onFinished, wait)

    def _startDenoising(self, name, volumes, finish, options, onProgress, onFinished, wait):
        from .Tasks import denoiseTask

        if not 0 <= options.strength <= 1:
            raise InputError(f"strength is {options.strength}; it must be from 0 (input) to 1 (fully denoised)")
        task = denoiseTask(
            _("Denoise {name}").format(name=name),
            volumes,
            self.keeping(finish),
            strength=options.strength,
            model=options.model,
            device=options.device,
            keepOutsideBody=options.keepOutsideBody,
            keptNoiseHu=options.keptNoiseHu,
            selfEnsemble=options.selfEnsemble,
        )
        return self.run("denoise", task, onProgress, onFinished, wait)

    def measureDevices(
        self,
        model: str | None = None,
        onProgress: Callable[[float, str], None] | None = None,
        onFinished: Callable[[Any], None] | None = None,
        wait: bool = True,
    ) -> list[dict[str, Any]] | None:
        """What this computer can run the network on: device, name, free and total bytes, seconds per 512² slice."""
        from .Tasks import devicesTask

        task = devicesTask(_("Measure devices"), self.keeping(lambda found: found), model=model)
        return self.run("devices", task, onProgress, onFinished, wait)

    # --- purification ---

    def purify(
        self,
        uldctNode: vtkMRMLScalarVolumeNode,
        ndctNode: vtkMRMLScalarVolumeNode,
        settings=None,
        onProgress: Callable[[float, str], None] | None = None,
        onFinished: Callable[[Any], None] | None = None,
        wait: bool = True,
    ):
        """Compute every stage of the purification of a pair and put them into the scene.

        Parameters
        ----------
        uldctNode, ndctNode : vtkMRMLScalarVolumeNode
            Ultra-low-dose and normal-dose CT of one patient, HU.
        settings : IPv2Lib.purification.Settings, optional
            Default: IPv2 as published.
        onProgress, onFinished, wait
            See `Jobs`.

        Returns
        -------
        IPv2Lib.scene_stages.StageNodes; None without `wait`
        """
        from IPv2Lib import scene_stages
        from IPv2Lib.purification import IPV2

        from .Tasks import purifyTask

        self.runner.refuse_if_active()
        _checkPair(uldctNode, ndctNode)
        uldct, ndct = _volumes([uldctNode, ndctNode])

        def finish(stages) -> scene_stages.StageNodes:
            self._checkPresent(uldctNode)
            return scene_stages.add_stages(stages, uldctNode, name=f"{uldctNode.GetName()} purification")

        title = _("Purify {name}").format(name=uldctNode.GetName())
        task = purifyTask(title, uldct, ndct, settings or IPV2, self.keeping(finish))
        return self.run("purify", task, onProgress, onFinished, wait)

    def previewSlice(
        self,
        uldctNode: vtkMRMLScalarVolumeNode,
        ndctNode: vtkMRMLScalarVolumeNode,
        settings=None,
        sliceIndex: int | None = None,
        onProgress: Callable[[float, str], None] | None = None,
        onFinished: Callable[[Any], None] | None = None,
        wait: bool = True,
    ):
        """Compute every stage of one slice, with the values that it has in the whole, and put them into the scene.

        Parameters
        ----------
        uldctNode, ndctNode, settings
            As for `purify`.
        sliceIndex : int, optional
            Slice of the uLDCT; default: the middle one.
        onProgress, onFinished, wait
            See `Jobs`.

        Returns
        -------
        IPv2Lib.scene_stages.StageNodes; None without `wait`
        """
        from IPv2Lib import scene, scene_stages
        from IPv2Lib.purification import IPV2, MATCHED, needed_for_slice

        from .Tasks import purifyTask

        self.runner.refuse_if_active()
        _checkPair(uldctNode, ndctNode)
        settings = settings or IPV2
        # Only a few slices are copied, unless the noise is matched to all of the NDCT.
        view = scene.node_to_volume if settings.kernel == MATCHED else scene.node_view
        uldct, ndct, firstSlice = needed_for_slice(scene.node_view(uldctNode), view(ndctNode), sliceIndex, settings)

        def finish(stages) -> scene_stages.StageNodes:
            self._checkPresent(uldctNode)
            return scene_stages.add_stages(stages, uldctNode, name=f"{uldctNode.GetName()} preview")

        title = _("Preview {name}").format(name=uldctNode.GetName())
        task = purifyTask(title, uldct, ndct, settings, self.keeping(finish), firstSlice=firstSlice)
        return self.run("preview", task, onProgress, onFinished, wait)

    def makeSamplePair(
        self,
        size: int = 256,
        slices: int = 24,
        onProgress: Callable[[float, str], None] | None = None,
        onFinished: Callable[[Any], None] | None = None,
        wait: bool = True,
    ) -> tuple[vtkMRMLScalarVolumeNode, vtkMRMLScalarVolumeNode] | None:
        """Make a synthetic chest scanned twice, uLDCT (2 % dose) and NDCT, 8 mm of breath apart.

        Parameters
        ----------
        size, slices : int
            Rows and columns, and slices.
        onProgress, onFinished, wait
            See `Jobs`.
        """
        from IPv2Lib import scene

        from .Tasks import phantomTask

        def finish(pair) -> tuple[vtkMRMLScalarVolumeNode, vtkMRMLScalarVolumeNode]:
            uldct, ndct = pair
            return scene.volume_to_node(uldct, "Phantom uLDCT"), scene.volume_to_node(ndct, "Phantom NDCT")

        task = phantomTask(_("Make a sample pair"), self.keeping(finish), size=size, slices=slices)
        return self.run("sample pair", task, onProgress, onFinished, wait)

    @staticmethod
    def _checkPresent(*nodes) -> None:
        for node in nodes:
            if not slicer.mrmlScene.IsNodePresent(node):
                raise InputError(f"'{node.GetName()}' was removed from the scene while its job was running")


def _first(onFinished: Callable[[Any], None] | None) -> Callable[[Any], None] | None:
    return onFinished and (lambda results: onFinished(results and results[0]))


def _volumes(nodes) -> list:
    """The volumes of nodes, checked: what is wrong with one is said with its name."""
    from IPv2Lib import ct, scene

    volumes = []
    for node in nodes:
        volume = scene.node_to_volume(node)
        try:
            ct.check_ct(volume)
        except InputError as error:
            raise InputError(f"'{node.GetName()}': {error}") from error
        volumes.append(volume)
    return volumes


def _checkPair(uldctNode, ndctNode) -> None:
    for node, role in ((uldctNode, "uLDCT"), (ndctNode, "NDCT")):
        if node is None:
            raise InputError(f"no {role} is chosen: choose or load one")
    if uldctNode is ndctNode:
        raise InputError(f"uLDCT and NDCT are both '{uldctNode.GetName()}': choose two scans of one patient")
