"""The module's work without its panel: starts jobs, and puts their results into the scene.

Importing this file must stay cheap, Slicer does it when it starts: what needs numpy comes in with the first job.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import slicer
import vtk
from IPv2Lib.errors import InputError
from IPv2Lib.inference.options import DenoiseOptions
from IPv2SlicerLib.jobs.Job import Job
from IPv2SlicerLib.jobs.Jobs import Jobs
from IPv2SlicerLib.jobs.Packages import ensurePackages, ensurePackagesAndTorch
from IPv2SlicerLib.scene.ScenePatients import whyNotOnePatient
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from .Messages import TITLE
from .Parameters import IPv2DenoiseParameterNode


class IPv2DenoiseLogic(Jobs, ScriptedLoadableModuleLogic):
    """Denoises and purifies in another process, with or without the panel.

    Every method that starts a job returns it, see `IPv2SlicerLib.jobs.Job`. Its `jobKind` is "denoise", "purify",
    "preview", "sample pair", "devices", "save" or "export".

    Attributes
    ----------
    denoised : dict of str to str
        IDs and names of the nodes that the present or last "denoise" is about.

    Examples
    --------
    >>> from IPv2Denoise import IPv2DenoiseLogic
    >>> nodes = IPv2DenoiseLogic().denoise(slicer.util.getNode("CTChest"), strength=0.8).wait()
    >>> nodes.denoised.GetName()
    'CTChest denoised'
    """

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        Jobs.__init__(self, TITLE, ensurePackages)
        self.denoised: dict[str, str] = {}

    def getParameterNode(self) -> IPv2DenoiseParameterNode:
        """The parameter node of the scene, made if there is none."""
        return IPv2DenoiseParameterNode(super().getParameterNode())

    # --- denoising ---

    def denoise(
        self,
        inputNode,
        outputNode=None,
        strength: float = 1.0,
        model: str | None = None,
        *,
        replaceOutput: bool = False,
        options: DenoiseOptions | None = None,
        **how: Any,
    ) -> Job:
        """Denoise a volume, or every frame of a sequence.

        Parameters
        ----------
        inputNode : vtkMRMLScalarVolumeNode or vtkMRMLSequenceNode
            Chest CT in HU; it is not changed.
        outputNode : vtkMRMLScalarVolumeNode or vtkMRMLSequenceNode, optional
            Receives the result; default: a new volume. It gets the place of the input, and its name with "denoised".
            For a sequence, an earlier result of it, which is replaced.
        strength : float
            0 (the input) to 1 (all noise removed that the model finds).
        model : str, optional
            Name of a model; default: the one for the device.
        replaceOutput : bool
            Whether something else may be lost: the output may be the result of another volume, or hold any image.
        options : IPv2Lib.inference.options.DenoiseOptions, optional
            Instead of strength, model and what follows.
        how
            Other fields of `DenoiseOptions`, in camelCase, such as ``device="cpu"`` and ``keepOutsideBody=True``.

        Returns
        -------
        Job
            Its result are `IPv2SlicerLib.scene.result_nodes.DenoisedNodes`.

        Raises
        ------
        IPv2Lib.errors.InputError
            The input cannot be used, the output holds something else, a parameter is out of range, or a job is
            running.
        """
        options = options or _options(strength=strength, model=model, **how)
        if inputNode is not None and inputNode.IsA("vtkMRMLSequenceNode"):
            return self._denoiseSequence(inputNode, outputNode, options)
        return self._denoise([inputNode], [outputNode], replaceOutput, options, lambda results: results[0])

    def denoiseVolumes(
        self,
        inputNodes: Sequence[vtkMRMLScalarVolumeNode],
        strength: float = 1.0,
        model: str | None = None,
        *,
        outputNodes: Sequence[vtkMRMLScalarVolumeNode | None] | None = None,
        replaceOutput: bool = False,
        options: DenoiseOptions | None = None,
        **how: Any,
    ) -> Job:
        """Denoise several volumes in a row: like `denoise` of each, but the model is loaded once.

        `outputNodes` has one output for each input, None for a new volume; default: new volumes.

        Returns
        -------
        Job
            Its result is a list of `IPv2SlicerLib.scene.result_nodes.DenoisedNodes`, in the order of the inputs.
        """
        options = options or _options(strength=strength, model=model, **how)
        outputs = [None] * len(inputNodes) if outputNodes is None else list(outputNodes)
        return self._denoise(list(inputNodes), outputs, replaceOutput, options, list)

    def _denoise(self, inputNodes, outputNodes, replaceOutput, options, given: Callable[[list], Any]) -> Job:
        from IPv2SlicerLib.scene import denoised_nodes
        from IPv2SlicerLib.scene.result_nodes import why_not_output

        self.runner.refuse_if_active()
        checkOutputs(inputNodes, outputNodes)
        for inputNode, outputNode in zip(inputNodes, outputNodes, strict=True):
            lost = "" if outputNode is None or replaceOutput else why_not_output(outputNode, inputNode)
            if lost:
                raise InputError(f"{lost}: choose another output, or none, or say replaceOutput=True to lose that")
        volumes, stamps = _volumes(inputNodes), _stamps(inputNodes)

        def outputFor(inputNode, outputNode):
            """The output, unless it was removed, or has become something else, since the start."""
            if outputNode is None or not slicer.mrmlScene.IsNodePresent(outputNode):
                return None
            return outputNode if replaceOutput or not why_not_output(outputNode, inputNode) else None

        def finish(results):
            checkPresent(*inputNodes)
            checkUnchanged(inputNodes, stamps)
            found = [
                denoised_nodes.add_denoised(
                    inputNode,
                    one.networkOutput,
                    options.strength,
                    one.statistics,
                    one.provenance,
                    output_node=outputFor(inputNode, outputNode),
                    blended=one.blended,
                )
                for inputNode, one, outputNode in zip(inputNodes, results, outputNodes, strict=True)
            ]
            return given(found)

        name = inputNodes[0].GetName() if len(inputNodes) == 1 else _("{n} volumes").format(n=len(inputNodes))
        return self._startDenoising(name, inputNodes, volumes, finish, options)

    def _denoiseSequence(self, inputNode, outputNode, options) -> Job:
        from IPv2SlicerLib.scene import denoised_nodes, volume_nodes
        from IPv2SlicerLib.scene.result_nodes import nodes_of
        from IPv2SlicerLib.scene.sequences import frames

        self.runner.refuse_if_active()
        earlier = nodes_of(outputNode)
        if outputNode is not None and (earlier is None or earlier.input is not inputNode):
            raise InputError(
                f"'{outputNode.GetName()}' is no result of '{inputNode.GetName()}', so a sequence cannot be written "
                "into it: leave the output empty"
            )
        checkVolumes([inputNode])
        volumes, stamps = [volume_nodes.node_to_volume(node) for node in frames(inputNode)], _stamps([inputNode])

        def finish(results):
            checkPresent(inputNode)
            checkUnchanged([inputNode], stamps)
            present = outputNode is not None and slicer.mrmlScene.IsNodePresent(outputNode)
            return denoised_nodes.add_denoised_sequence(
                inputNode,
                [one.networkOutput for one in results],
                options.strength,
                [one.statistics for one in results],
                [one.provenance for one in results],
                output_node=outputNode if present else None,
                blended=[one.blended for one in results],
            )

        name = inputNode.GetName()
        return self._startDenoising(name, [inputNode], volumes, finish, options)

    def _startDenoising(self, name, nodes, volumes, finish, options) -> Job:
        from IPv2SlicerLib.scene.sequences import data_nodes, frame_name

        from .Tasks import denoiseTask

        task = denoiseTask(
            _("Denoise {name}").format(name=name),
            volumes,
            [frame_name(node, index) for node in nodes for index in range(len(data_nodes(node)))],
            [node.GetName() for node in nodes for each in data_nodes(node)],
            finish,
            options,
        )
        self.denoised = {node.GetID(): node.GetName() for node in nodes}
        return self.run("denoise", task, packagesFor(options.model, options.device, options.engine))

    def measureDevices(self, model: str | None = None, engine: str = "auto") -> Job:
        """What this computer can denoise on: device, name, free and total bytes, engine, seconds per 512² slice.

        The parameters are those of `IPv2Lib.inference.options.DenoiseOptions`.
        """
        from .Tasks import devicesTask

        task = devicesTask(_("Measure devices"), model=model, engine=engine)
        return self.run("devices", task, packagesFor(model, "cpu", engine))

    # --- files ---

    def save(self, node: vtkMRMLScalarVolumeNode, path: str | Path, overwrite: bool = False) -> Job:
        """Write a volume, and beside it, as `<name>.json`, how it was made.

        Parameters
        ----------
        node : vtkMRMLScalarVolumeNode or vtkMRMLSequenceNode
        path : path
            A name that ends in one of `formats.SUFFIXES`. For a sequence a folder is made that is called so without
            the suffix (and with a number, where that is there already), with one such file for each frame.
        overwrite : bool
            Whether a file may be replaced that is no earlier output of IPv2.

        Returns
        -------
        Job
            Its result is the path of the file or the folder.

        Raises
        ------
        IPv2Lib.errors.IPv2Error
            An unknown suffix, no permission, a full disk.
        """
        from IPv2Lib.errors import OutputError
        from IPv2Lib.io import formats
        from IPv2SlicerLib.scene.sequences import is_sequence

        from .Export import newFolder

        path = Path(path).absolute()
        if not path.name.lower().endswith(formats.SUFFIXES):
            raise OutputError(f"{path.name} has no known suffix: end the name in {formats.ENDINGS}")
        title = _("Save {name}").format(name=path.name)
        if is_sequence(node):
            suffix = formats.suffix(path)
            folder = newFolder(path.parent, path.name[: -len(suffix)])
            return self._convertFrames("save", title, node, folder, suffix, None)
        return self._convert("save", title, node, path, None, overwrite)

    def exportDicom(self, node: vtkMRMLScalarVolumeNode, folder: str | Path, withoutPatient: bool = False) -> Job:
        """Write a volume as a derived DICOM series; patient and study are those of the series it was computed from.

        Parameters
        ----------
        node : vtkMRMLScalarVolumeNode or vtkMRMLSequenceNode
            Loaded from DICOM, or a result of what was. Of a sequence each frame becomes a series.
        folder : path
            An existing folder, in which one is made, named after the node; with one for each frame of a sequence.
        withoutPatient : bool
            Write a new study of an unknown patient where the series cannot be found.

        Returns
        -------
        Job
            Its result is the path of the new folder.

        Raises
        ------
        IPv2Lib.errors.IPv2Error
            The series is not in Slicer's DICOM database, or is not on the grid of the volume; no permission, a full
            disk.
        """
        from IPv2SlicerLib.scene.sequences import is_sequence

        from .Export import dicomSources, newFolder

        sources = dicomSources(node)
        lacking = next((source.lacking for source in sources if source.lacking), "")
        if lacking and not withoutPatient:
            raise InputError(f"{lacking} So its patient is not known: load the series again, or save as NRRD")
        target = newFolder(Path(folder).absolute(), node.GetName())
        title = _("Export {name}").format(name=node.GetName())
        found = None if lacking else sources
        if is_sequence(node):
            return self._convertFrames("export", title, node, target, "", found)
        return self._convert("export", title, node, target, found and found[0], False)

    def _convert(self, kind, title, node, target, source, overwrite) -> Job:
        from IPv2SlicerLib.scene import volume_nodes

        from .Export import provenanceOf
        from .Tasks import convertTask

        self.runner.refuse_if_active()
        volume = volume_nodes.node_to_volume(node)
        return self.run(kind, convertTask(title, volume, target, provenanceOf(node), source, overwrite))

    def _convertFrames(self, kind, title, node, target, suffix, sources) -> Job:
        from IPv2SlicerLib.scene import volume_nodes

        from .Export import framesOf
        from .Tasks import convertFramesTask

        self.runner.refuse_if_active()
        found = framesOf(node)
        frames = [
            (name + suffix, volume_nodes.node_to_volume(frame), facts, source)
            for (name, frame, facts), source in zip(found, sources or [None] * len(found), strict=True)
        ]
        return self.run(kind, convertFramesTask(title, frames, target))

    # --- purification ---

    def purify(self, uldctNode: vtkMRMLScalarVolumeNode, ndctNode: vtkMRMLScalarVolumeNode, settings=None) -> Job:
        """Compute every stage of the purification of a pair and put them into the scene.

        Parameters
        ----------
        uldctNode, ndctNode : vtkMRMLScalarVolumeNode
            Ultra-low-dose and normal-dose CT of one patient, HU.
        settings : IPv2Lib.purification.settings.Settings, optional
            Default: IPv2 as published.

        Returns
        -------
        Job
            Its result are `IPv2SlicerLib.scene.stage_nodes.StageNodes`.
        """
        from IPv2Lib.purification.settings import IPV2
        from IPv2SlicerLib.scene import stage_nodes

        from .Tasks import purifyTask

        self.runner.refuse_if_active()
        checkPair(uldctNode, ndctNode)
        pair = [uldctNode, ndctNode]
        (uldct, ndct), stamps = _volumes(pair), _pairStamps(pair)

        def finish(stages) -> stage_nodes.StageNodes:
            checkPairUnchanged(pair, stamps)
            return stage_nodes.add_stages(stages, uldctNode, name=f"{uldctNode.GetName()} purification")

        title = _("Purify {name}").format(name=uldctNode.GetName())
        task = purifyTask(title, uldct, ndct, settings or IPV2, finish)
        return self.run("purify", task)

    def previewSlice(
        self,
        uldctNode: vtkMRMLScalarVolumeNode,
        ndctNode: vtkMRMLScalarVolumeNode,
        settings=None,
        sliceIndex: int | None = None,
    ) -> Job:
        """Compute every stage of one slice, with the values that it has in the whole, and put them into the scene.

        Parameters
        ----------
        uldctNode, ndctNode, settings
            As for `purify`.
        sliceIndex : int, optional
            Slice of the uLDCT; default: the middle one.

        Returns
        -------
        Job
            Its result are `IPv2SlicerLib.scene.stage_nodes.StageNodes`.
        """
        from IPv2Lib.purification.purify import needed_for_slice
        from IPv2Lib.purification.settings import IPV2, MATCHED
        from IPv2SlicerLib.scene import stage_nodes, volume_nodes

        from .Tasks import purifyTask

        self.runner.refuse_if_active()
        checkPair(uldctNode, ndctNode)
        settings = settings or IPV2
        # Only a few slices are copied, unless the noise is matched to all of the NDCT.
        view = volume_nodes.node_to_volume if settings.kernel == MATCHED else volume_nodes.node_view
        uldct, ndct, firstSlice = needed_for_slice(
            volume_nodes.node_view(uldctNode), view(ndctNode), sliceIndex, settings
        )
        pair = [uldctNode, ndctNode]
        stamps = _pairStamps(pair)

        def finish(stages) -> stage_nodes.StageNodes:
            checkPairUnchanged(pair, stamps)
            return stage_nodes.add_stages(stages, uldctNode, name=f"{uldctNode.GetName()} preview")

        title = _("Preview {name}").format(name=uldctNode.GetName())
        task = purifyTask(title, uldct, ndct, settings, finish, firstSlice=firstSlice)
        return self.run("preview", task)

    def makeSamplePair(self, size: int = 256, slices: int = 24) -> Job:
        """Make a synthetic chest scanned twice, uLDCT (2 % dose) and NDCT, with 8 mm of respiratory motion between.

        Parameters
        ----------
        size, slices : int
            Rows and columns, and slices.

        Returns
        -------
        Job
            Its result are both volumes.
        """
        from IPv2SlicerLib.scene import volume_nodes

        from .Tasks import phantomTask

        def finish(pair) -> tuple[vtkMRMLScalarVolumeNode, vtkMRMLScalarVolumeNode]:
            names = "Phantom uLDCT", "Phantom NDCT"
            return tuple(volume_nodes.volume_to_node(volume, name) for volume, name in zip(pair, names, strict=True))

        task = phantomTask(_("Make a sample pair"), size=size, slices=slices, finish=finish)
        return self.run("sample pair", task)


def _options(**how: Any) -> DenoiseOptions:
    """Options by their names in camelCase."""
    return DenoiseOptions(
        **{re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", name): value for name, value in how.items()}
    )


def packagesFor(model: str | None, device: str, engine: str) -> Callable[[str], None]:
    """What makes sure that denoising with these options has its packages: PyTorch only where nothing else will do.

    Raises
    ------
    IPv2Lib.errors.InputError
        The engine cannot run this model on this device.
    """
    from IPv2Lib.errors import BundleError
    from IPv2Lib.inference.engines import TORCH, suitable_engine
    from IPv2Lib.models import bundle

    device = "cpu" if device == "auto" else device  # on a GPU that it finds, PyTorch is there
    try:
        chosen = bundle.load(model or bundle.default_name(device))
    except BundleError:
        return ensurePackages  # the job says what is wrong
    return ensurePackagesAndTorch if suitable_engine(chosen, engine, device) == TORCH else ensurePackages


def checkOutputs(inputNodes, outputNodes) -> None:
    """Refuse an output that is an input, is to have two results, or shows the frames of a sequence (`InputError`)."""
    from IPv2SlicerLib.scene.sequences import sequence_of

    chosen = [node for node in outputNodes if node is not None]
    for node in chosen:
        if node in inputNodes:
            raise InputError(f"the output '{node.GetName()}' is the input: choose another, inputs are not changed")
        if (sequence := sequence_of(node)) is not None:
            raise InputError(
                f"the output '{node.GetName()}' shows the frames of '{sequence.GetName()}', the next one would replace "
                "the result: choose another, or none"
            )
    if len(set(chosen)) < len(chosen):
        raise InputError("one output for several inputs: choose another for each, or none")


def checkVolumes(nodes) -> None:
    """Refuse volumes and sequences that cannot be denoised (`InputError`), by name; some 0.1 s for 600 slices."""
    from IPv2Lib.io.volume import check_ct
    from IPv2SlicerLib.scene import volume_nodes
    from IPv2SlicerLib.scene.sequences import frame_name, frames, is_sequence

    for node in nodes:
        for index, frame in enumerate(frames(node) if is_sequence(node) else [node]):
            volume = volume_nodes.node_view(frame)
            try:
                check_ct(volume)
            except InputError as error:
                raise InputError(f"{frame_name(node, index)}: {error}") from error


def checkPresent(*nodes) -> None:
    """Refuse to go on without inputs that were removed (`InputError`)."""
    for node in nodes:
        if not slicer.mrmlScene.IsNodePresent(node):
            raise InputError(f"'{node.GetName()}' was removed from the scene while its job was running")


def checkUnchanged(nodes, stamps) -> None:
    """Refuse to put results beside inputs that are not those any more that were denoised (`InputError`)."""
    _compare(nodes, stamps, _stamps(nodes))


def checkPairUnchanged(pair, stamps) -> None:
    """Refuse stages of scans that are not there, or not as they were, any more (`InputError`)."""
    checkPresent(*pair)
    _compare(pair, stamps, _pairStamps(pair))


def _compare(nodes, before, now) -> None:
    for node, one, other in zip(nodes, before, now, strict=True):
        if one != other:
            raise InputError(f"'{node.GetName()}' was changed while its job was running: start it again")


def _stamps(nodes) -> list[tuple[int, ...]]:
    from IPv2SlicerLib.scene.sequences import content_stamp

    return [content_stamp(node) for node in nodes]


def _pairStamps(pair) -> list[tuple]:
    """Of voxels and place: stages are on the grid that the uLDCT had, and the NDCT was moved onto it."""
    return [(*stamp, *_placeOf(node)) for node, stamp in zip(pair, _stamps(pair), strict=True)]


def _placeOf(node) -> tuple:
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    elements = (matrix.GetElement(row, column) for row in range(4) for column in range(4))
    return (node.GetTransformNodeID(), *elements)


def _volumes(nodes) -> list:
    """Copies of volumes, checked."""
    from IPv2SlicerLib.scene import volume_nodes

    checkVolumes(nodes)
    return [volume_nodes.node_to_volume(node) for node in nodes]


def checkPair(uldctNode, ndctNode) -> None:
    """Refuse what is no pair (`InputError`); cheap."""
    for node, role in ((uldctNode, "uLDCT"), (ndctNode, "NDCT")):
        if node is None:
            raise InputError(f"no {role} is chosen: choose or load one")
    if uldctNode is ndctNode:
        raise InputError(f"uLDCT and NDCT are both '{uldctNode.GetName()}': choose two scans of one patient")
    if reason := whyNotOnePatient(ndctNode, uldctNode):
        raise InputError(reason)
