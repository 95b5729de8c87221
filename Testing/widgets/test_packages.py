"""Packages that are missing: everything is looked at first, one question, and a failure is no "no"."""

import json
import shutil

import pytest
from IPv2Lib.errors import Cancelled, InputError
from IPv2Lib.inference.options import DenoiseOptions
from IPv2Lib.models import bundle
from IPv2SlicerLib.scene import volume_nodes
from panel import MODULE, finish_job, open_panel, small_pair

OFFLINE = [
    "Collecting safetensors>=0.4",
    "  WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(': Failed to establish a new "
    "connection: [Errno -3] Temporary failure in name resolution')': /simple/safetensors/",
    "ERROR: Could not find a version that satisfies the requirement safetensors>=0.4 (from versions: none)",
    "ERROR: No matching distribution found for safetensors>=0.4",
]
FULL = [
    "Collecting safetensors>=0.4",
    "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
    "[notice] A new release of pip is available: 24.0 -> 25.1",
]


@pytest.fixture(params=[True, False], ids=["Slicer 5.12", "Slicer 5.10"])
def slicer_version(request) -> dict:
    return {"packaging": request.param, "version": (5, 12 if request.param else 10)}


@pytest.fixture
def start(make_host, slicer_version):
    """Start a Slicer in which some packages are absent; returns it and `Packages`."""

    def start(*absent: str, **options):
        host = make_host(**slicer_version, **options)
        host.load_module(MODULE, select=False)
        host.absent_packages.update(absent)
        from IPv2SlicerLib.jobs import Packages

        return host, Packages

    return start


def kinds(host) -> list[str]:
    return [message.kind for message in host.messages]


def test_nothing_is_asked_where_nothing_is_missing(start):
    host, packages = start()
    packages.ensurePackagesAndTorch("IPv2 Denoise")
    packages.ensureTrainingPackages("IPv2 Train")
    assert host.messages == [] and host.installed_packages == []


def test_one_question_for_all_in_the_right_order(start):
    host, packages = start("safetensors", "torch", "torchmetrics")
    packages.ensureTrainingPackages("IPv2 Train")
    assert kinds(host) == ["question"]
    assert all(name in host.messages[0].text for name in ("safetensors", "torch>=2.2", "torchmetrics", "GB"))
    assert host.messages[0].title == "IPv2 Train"
    assert [each.partition(">")[0] for each in host.installed_packages] == ["safetensors", "torch", "torchmetrics"]


def test_a_missing_extension_is_noticed_before_anything_is_asked_or_installed(start):
    host, packages = start("safetensors", "torch", pytorch_extension=False)
    for ensure in (packages.ensurePackagesAndTorch, packages.ensureTrainingPackages):
        with pytest.raises(InputError, match="install the extension PyTorch"):
            ensure("IPv2 Denoise")
    assert host.messages == [] and host.installed_packages == []


@pytest.fixture
def no_graph(tmp_path, monkeypatch) -> str:
    """Name of a model that runs on PyTorch only."""
    shutil.copytree(bundle.load("ipv2-fast").folder, tmp_path / "models" / "mine")
    card = tmp_path / "models" / "mine" / bundle.CARD_FILE
    facts = json.loads(card.read_text(encoding="utf-8")) | {"name": "mine"}
    del facts["graph"]
    card.write_text(json.dumps(facts), encoding="utf-8")
    monkeypatch.setenv("IPV2_MODELS", str(tmp_path / "models"))
    return "mine"


ASKED = {
    "denoise": lambda logic, uldct, ndct: logic.denoise(uldct),
    "denoise with ONNX Runtime": lambda logic, uldct, ndct: logic.denoise(
        uldct, options=DenoiseOptions(engine="onnxruntime")
    ),
    "measure": lambda logic, uldct, ndct: logic.measureDevices(),
    "purify": lambda logic, uldct, ndct: logic.purify(uldct, ndct),
    "preview": lambda logic, uldct, ndct: logic.previewSlice(uldct, ndct),
    "sample pair": lambda logic, uldct, ndct: logic.makeSamplePair(),
}
ASKED_WITH_TORCH = {
    "denoise on a GPU": lambda logic, uldct, ndct: logic.denoise(uldct, device="cuda"),
    "denoise with PyTorch": lambda logic, uldct, ndct: logic.denoise(uldct, options=DenoiseOptions(engine="torch")),
    "a model without a graph": lambda logic, uldct, ndct: logic.denoise(uldct, model="mine"),
    "measure a model without a graph": lambda logic, uldct, ndct: logic.measureDevices("mine"),
}


@pytest.mark.parametrize("what", [*ASKED, *ASKED_WITH_TORCH])
def test_pytorch_is_asked_for_where_nothing_else_will_do(start, no_graph, what):
    """A question with all that is missing, which is declined here."""
    host, _ = start("onnxruntime", "torch", pytorch_extension=what in ASKED_WITH_TORCH)
    from IPv2Denoise import IPv2DenoiseLogic

    logic = IPv2DenoiseLogic()
    nodes = [volume_nodes.volume_to_node(volume, "CT") for volume in (small_pair().uldct, small_pair().ndct)]
    host.answers.append(False)
    with pytest.raises(Cancelled):
        {**ASKED, **ASKED_WITH_TORCH}[what](logic, *nodes)
    assert kinds(host) == ["question"] and "onnxruntime" in host.messages[0].text
    assert ("torch>=" in host.messages[0].text) == (what in ASKED_WITH_TORCH)
    assert host.installed_packages == [] and not logic.runner.state.active


def test_a_click_asks_once_and_denoises(host):
    widget, *_ = open_panel(host, slices=2)
    host.absent_packages.update({"onnxruntime", "torch"})
    host.click(widget.ui.denoiseButton)
    finish_job(host, widget)
    assert kinds(host) == ["question"] and "torch>=" not in host.messages[0].text
    assert host.installed_packages == ["onnxruntime>=1.17"]
    assert widget.ui.denoiseStatusLabel.text().startswith("Done in")


def test_a_gpu_without_pytorch_is_offered_and_asks_for_it(host, monkeypatch):
    monkeypatch.setattr("IPv2DenoiseLib.AdvancedSection.has_idle_gpu", lambda: True)
    widget, *_ = open_panel(host, slices=2)
    host.absent_packages.add("torch")
    widget.ui.deviceSelector.setCurrentText("GPU, needs PyTorch")
    assert widget._parameterNode.device == "cuda"
    host.answers.append(False)
    host.click(widget.ui.denoiseButton)
    assert kinds(host) == ["question"] and "torch>=" in host.messages[0].text
    assert host.installed_packages == [] and not widget.logic.runner.state.active


def test_an_onnxruntime_that_is_too_old_is_replaced(start, monkeypatch):
    _host, packages = start()
    found = packages.importlib.metadata.version
    monkeypatch.setattr(
        packages.importlib.metadata, "version", lambda name: "1.16.3" if name == "onnxruntime" else found(name)
    )
    assert packages.missingPackages() == ["onnxruntime>=1.17"]


def test_no_extension_is_needed_where_torch_is_there(start):
    host, packages = start("safetensors", pytorch_extension=False)
    packages.ensurePackagesAndTorch("IPv2 Denoise")
    assert kinds(host) == ["question"] and "GB" not in host.messages[0].text
    assert len(host.installed_packages) == 1


def test_no_is_no(start):
    host, packages = start("safetensors", "torch")
    host.answers.append(False)
    with pytest.raises(Cancelled):
        packages.ensurePackagesAndTorch("IPv2 Denoise")
    assert kinds(host) == ["question"] and host.installed_packages == []


@pytest.mark.parametrize("absent", ["safetensors", "torch"])
@pytest.mark.parametrize(
    ("printed", "says"), [(OFFLINE, "no answer from the network"), (FULL, "No space left on device")]
)
def test_a_failure_of_pip_is_told_with_its_reason(start, capsys, absent, printed, says):
    host, packages = start(absent)
    host.pip_failure.extend(printed)
    with pytest.raises(InputError) as caught:
        packages.ensurePackagesAndTorch("IPv2 Denoise")
    assert says in str(caught.value) and absent in str(caught.value) and "\n" not in str(caught.value)
    assert printed[0] in capsys.readouterr().out
    assert host.installed_packages == []


def test_a_failure_that_says_nothing_is_told_by_its_exit_code(start):
    host, packages = start("safetensors")
    host.pip_failure.append("Collecting safetensors")
    with pytest.raises(InputError, match="returned non-zero exit status 1"):
        packages.ensurePackagesAndTorch("IPv2 Denoise")


def test_a_python_that_is_not_found_is_no_decline(start, monkeypatch):
    _host, packages = start("safetensors")

    def not_found(*_) -> None:
        raise RuntimeError("PythonSlicer executable not found")

    monkeypatch.setattr("host.packages._run_pip", not_found)
    with pytest.raises(InputError, match="PythonSlicer executable not found"):
        packages.ensurePackagesAndTorch("IPv2 Denoise")


def test_nothing_is_installed_while_slicer_tests(start):
    host, packages = start("safetensors", testing=True)
    with pytest.raises(InputError, match=r"safetensors.*before the tests run"):
        packages.ensurePackagesAndTorch("IPv2 Denoise")
    assert host.installed_packages == []


@pytest.mark.parametrize("version", ["1.13.1", None, "unknown"])
def test_what_is_too_old_or_broken_is_missing(start, monkeypatch, version):
    _host, packages = start()
    found = packages.importlib.metadata.version
    old = {"torch": version}
    monkeypatch.setattr(
        packages.importlib.metadata, "version", lambda name: old.pop(name) if name in old else found(name)
    )
    assert packages.missingTrainingPackages() == [packages.TORCH]


def test_pre_releases_local_versions_and_markers(start, tmp_path, monkeypatch):
    _host, packages = start()
    listed = tmp_path / "requirements.txt"
    listed.write_text("# nothing\n\nno-such-package>=1; sys_platform == 'nowhere'  # not here\nnumpy>=1\n")
    monkeypatch.setattr(packages, "requirementsPath", lambda name: listed)
    found = packages.importlib.metadata.version
    monkeypatch.setattr(
        packages.importlib.metadata, "version", lambda name: "2.8.0.dev1+cu129" if name == "torch" else found(name)
    )
    assert packages.missingTrainingPackages() == []


def test_what_was_installed_and_is_not_there_is_told(start, monkeypatch):
    _host, packages = start("safetensors")
    monkeypatch.setattr("host.packages._run_pip", lambda *_: None)
    with pytest.raises(InputError, match="still missing after their installation"):
        packages.ensurePackagesAndTorch("IPv2 Denoise")


def test_no_job_starts_where_an_installation_fails(start):
    host, _ = start("safetensors")
    from IPv2Denoise import IPv2DenoiseLogic

    logic = IPv2DenoiseLogic()
    host.pip_failure.extend(OFFLINE)
    with pytest.raises(InputError, match="no answer from the network"):
        logic.measureDevices()
    assert not logic.runner.state.active and logic.jobKind == ""
