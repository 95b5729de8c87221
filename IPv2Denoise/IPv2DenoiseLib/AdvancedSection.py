"""What is folded away under *Advanced*: model and card, device, further volumes, log."""

import html
from collections.abc import Callable
from typing import Any

import qt
from IPv2Lib.inference.tiling import VIEWS
from IPv2Lib.inference.torch_device import has_idle_gpu
from IPv2Lib.models import bundle
from IPv2Lib.models.card import ModelCard
from IPv2SlicerLib.widgets.Folders import openFolder
from IPv2SlicerLib.widgets.JobLog import JobLog
from IPv2SlicerLib.widgets.Messages import about, sentence
from IPv2SlicerLib.widgets.Section import Section
from IPv2SlicerLib.widgets.Views import inputVolumes
from slicer.i18n import tr as _

from .Logic import IPv2DenoiseLogic
from .Parameters import Engine


class AdvancedSection(Section):
    """Connects the advanced widgets with the logic.

    Parameters
    ----------
    ui : object
        The widgets of the .ui file by name.
    logic : IPv2DenoiseLogic
    say : callable
        Shows a sentence below the button Denoise.
    """

    def __init__(self, ui, logic: IPv2DenoiseLogic, say: Callable[[str], None]):
        super().__init__(ui, logic)
        self._say = say
        self._log = JobLog(ui, logic)
        self._models: dict[str, bundle.Bundle] = {}  # by name
        self._shownModel: str | None = None
        self._devices: list[dict[str, Any]] = []  # measured; see `IPv2DenoiseLogic.measureDevices`
        self._deviceTexts: dict[str, str] = {}  # text to device
        self._shownDevice: tuple | None = None
        self._further: list = []  # nodes in the order of the list
        self._shownFurther: tuple | None = None  # the input, and what is ticked
        self._saidProblems: set[str] = set()  # of models
        ui.modelSelector.currentTextChanged.connect(self._onModelChosen)
        self._onClick(ui.modelsFolderButton, lambda: openFolder(bundle.user_folder()))
        ui.deviceSelector.currentTextChanged.connect(self._onDeviceChosen)
        self._onClick(ui.measureDevicesButton, self._onMeasure)
        ui.furtherVolumesList.itemChanged.connect(self._onFurtherChanged)

    def card(self) -> ModelCard | None:
        """The card of the chosen model; none if it is not usable."""
        if not self._parameterNode:
            return None
        name, device = self._parameterNode.model, self._parameterNode.device
        chosen = self._models.get(name) if name else self._defaultModel(device)
        return chosen.card if chosen else None

    def setParameterNode(self, parameterNode) -> None:
        """Use a parameter node, or none."""
        self._shownModel = self._shownDevice = self._shownFurther = None
        if parameterNode:
            self._findModels()
        super().setParameterNode(parameterNode)

    def parametersChanged(self) -> None:
        """Follow a change of any parameter."""
        if not self._parameterNode:
            return
        if self._shownModel != self._parameterNode.model:
            self._showModel()
        shown = self._parameterNode.device, self._parameterNode.inputVolume, self._parameterNode.testTimeAugmentation
        if self._shownDevice != shown:
            self._shownDevice = shown
            self._listDevices()
        if self._shownFurther != (self._parameterNode.inputVolume, list(self._parameterNode.furtherVolumes)):
            self._listFurtherVolumes()

    def sceneChanged(self) -> None:
        """Volumes may have come or gone."""
        self._listFurtherVolumes()

    def jobChanged(self) -> None:
        """Lock what cannot be used meanwhile; write down what the job said."""
        self._allow(self._ui.measureDevicesButton, self._whyWait())
        self._log.jobChanged()

    # --- model ---

    def _findModels(self) -> None:
        found, problems = bundle.scan()
        for problem in map(str, problems):
            if problem not in self._saidProblems:
                self._saidProblems.add(problem)
                self._log.write(sentence(problem))
        self._models = {each.name: each for each in found}

    def _defaultModel(self, device: str) -> bundle.Bundle | None:
        return bundle.default_among(list(self._models.values()), device) if self._models else None

    def _showModel(self) -> None:
        self._shownModel = self._parameterNode.model
        name = self._shownModel
        selector = self._ui.modelSelector
        selector.blockSignals(True)
        selector.clear()
        selector.addItem(_("Automatic"))
        for each in {**self._models, **({name: None} if name else {})}:
            selector.addItem(each)
        selector.setCurrentText(name or _("Automatic"))
        selector.blockSignals(False)
        if name:
            model = self._models.get(name)
            text = cardHtml(model) if model else _("This model is not installed: choose another.")
        else:
            text = self._automaticHtml()
        self._ui.modelCard.setHtml(text)

    def _automaticHtml(self) -> str:
        """The card of the default model, or of both if that depends on the device."""
        onCpu, onGpu = (self._defaultModel(device) for device in ("cpu", "cuda"))
        if not onCpu:
            return _("No model is installed.")
        if onCpu is onGpu:
            return cardHtml(onCpu)
        which = _("{fast} on the CPU, {quality} on a GPU.").format(fast=onCpu.name, quality=onGpu.name)
        return f"<p>{html.escape(which)}</p>{cardHtml(onCpu)}<hr>{cardHtml(onGpu)}"

    def _onModelChosen(self, name: str) -> None:
        if self._parameterNode and name:
            self._parameterNode.model = "" if name == _("Automatic") else name

    # --- device ---

    def _listDevices(self) -> None:
        chosen = self._parameterNode.device
        texts = {"auto": _("Automatic"), "cpu": _("CPU")}
        if has_idle_gpu():
            texts["cuda"] = _("GPU, needs PyTorch")
        texts |= {each["device"]: self._deviceText(each) for each in self._devices}
        texts.setdefault(chosen, chosen)
        self._deviceTexts = {text: device for device, text in texts.items()}
        selector = self._ui.deviceSelector
        selector.blockSignals(True)
        selector.clear()
        for text in self._deviceTexts:
            selector.addItem(text)
        selector.setCurrentText(texts[chosen])
        selector.blockSignals(False)

    def _onDeviceChosen(self, text: str) -> None:
        if self._parameterNode and text in self._deviceTexts:
            self._parameterNode.device = self._deviceTexts[text]

    def _onMeasure(self) -> None:
        model, engine = self._parameterNode.model or None, self._parameterNode.engine.value
        self._whenDone(self._logic.measureDevices(model, engine), self._onMeasured)

    def _onMeasured(self, devices) -> None:
        if self._parameterNode:
            self._devices = devices
            self._listDevices()
            found = "; ".join(map(self._deviceText, devices))
            self._say(_("Measured: {devices}.").format(devices=found))

    def _deviceText(self, device: dict[str, Any]) -> str:
        """A measured device, with the time for the input as it is going to be denoised."""
        passes = len(VIEWS) if self._parameterNode.testTimeAugmentation else 1
        seconds = device["seconds_per_slice"] * passes
        return deviceText(device | {"seconds_per_slice": seconds}, sliceEquivalents(self._parameterNode.inputVolume))

    # --- further volumes ---

    def _listFurtherVolumes(self) -> None:
        if not self._parameterNode:
            return
        chosen = list(self._parameterNode.furtherVolumes)
        self._shownFurther = self._parameterNode.inputVolume, chosen
        self._further = [node for node in inputVolumes() if node is not self._parameterNode.inputVolume]
        volumes = self._ui.furtherVolumesList
        volumes.blockSignals(True)
        volumes.clear()
        for node in self._further:
            item = qt.QListWidgetItem(node.GetName())
            item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable)
            item.setCheckState(qt.Qt.Checked if node in chosen else qt.Qt.Unchecked)
            volumes.addItem(item)
        volumes.blockSignals(False)
        for widget in (self._ui.furtherVolumesLabel, volumes):
            widget.setVisible(bool(self._further))

    def _onFurtherChanged(self, item) -> None:
        if self._parameterNode:
            items = [self._ui.furtherVolumesList.item(row) for row in range(len(self._further))]
            chosen = [
                node for node, item in zip(self._further, items, strict=True) if item.checkState() == qt.Qt.Checked
            ]
            self._shownFurther = self._parameterNode.inputVolume, chosen
            self._parameterNode.furtherVolumes = chosen


def cardHtml(model: bundle.Bundle) -> str:
    """The card of a model for people."""
    card = model.card
    sources = "; ".join(f"{each.name} ({each.licence})" for each in card.trained_on)
    rows = [
        (_("For"), card.intended_use),
        (_("Limits"), card.limits),
        (_("Network"), card.network.name),
        (_("Trained on"), sources),
        (_("Created"), card.created),
        (_("SHA-256"), f"{model.hash[:16]}…"),
        (_("Folder"), str(model.folder)),
    ]
    text = "".join(f"<p><b>{html.escape(name)}:</b> {html.escape(str(value))}</p>" for name, value in rows)
    return f"<p><b>{html.escape(card.title)}</b></p><p>{html.escape(card.description)}</p>{text}"


def deviceText(device: dict[str, Any], slices: float | None) -> str:
    """A measured device in one line: name, free memory (GB), engine, time for the input.

    Parameters
    ----------
    device : dict
        See `IPv2DenoiseLogic.measureDevices`.
    slices : float or None
        Of the input, in slices of 512×512 pixels.

    Examples
    --------
    >>> found = {"device": "cpu", "name": "Xeon", "engine": "onnxruntime", "seconds_per_slice": 0.5}
    >>> deviceText(found, 60)
    'CPU, ONNX Runtime, about 30 s'
    """
    parts = [_("CPU") if device["device"] == "cpu" else f"{device['name']} ({device['device']})"]
    if device["device"] != "cpu" and device["free_bytes"] is not None:
        parts.append(
            _("{free} of {total} GB free").format(
                free=f"{device['free_bytes'] / 2**30:.1f}", total=f"{device['total_bytes'] / 2**30:.1f}"
            )
        )
    parts.append(Engine(device["engine"]).label())
    if slices is None:
        parts.append(_("{time} s per slice").format(time=f"{device['seconds_per_slice']:.2g}"))
    else:
        parts.append(about(device["seconds_per_slice"] * slices))
    return ", ".join(parts)


def sliceEquivalents(node) -> float | None:
    """Slices of a volume, as many as of 512×512 pixels; None for anything else."""
    image = node.GetImageData() if node is not None and node.IsA("vtkMRMLScalarVolumeNode") else None
    if image is None:
        return None
    columns, rows, slices = image.GetDimensions()
    return slices * rows * columns / 512**2
