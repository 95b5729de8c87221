"""Packages that are missing: everything is looked at first, one question, and a failure is no "no"."""

import pytest
from IPv2Lib.errors import Cancelled, InputError
from panel import MODULE

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
    packages.ensurePackages("IPv2 Denoise")
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
    for ensure in (packages.ensurePackages, packages.ensureTrainingPackages):
        with pytest.raises(InputError, match="install the extension PyTorch"):
            ensure("IPv2 Denoise")
    assert host.messages == [] and host.installed_packages == []


def test_no_extension_is_needed_where_torch_is_there(start):
    host, packages = start("safetensors", pytorch_extension=False)
    packages.ensurePackages("IPv2 Denoise")
    assert kinds(host) == ["question"] and "GB" not in host.messages[0].text
    assert len(host.installed_packages) == 1


def test_no_is_no(start):
    host, packages = start("safetensors", "torch")
    host.answers.append(False)
    with pytest.raises(Cancelled):
        packages.ensurePackages("IPv2 Denoise")
    assert kinds(host) == ["question"] and host.installed_packages == []


@pytest.mark.parametrize("absent", ["safetensors", "torch"])
@pytest.mark.parametrize(
    ("printed", "says"), [(OFFLINE, "no answer from the network"), (FULL, "No space left on device")]
)
def test_a_failure_of_pip_is_told_with_its_reason(start, capsys, absent, printed, says):
    host, packages = start(absent)
    host.pip_failure.extend(printed)
    with pytest.raises(InputError) as caught:
        packages.ensurePackages("IPv2 Denoise")
    assert says in str(caught.value) and absent in str(caught.value) and "\n" not in str(caught.value)
    assert printed[0] in capsys.readouterr().out
    assert host.installed_packages == []


def test_a_failure_that_says_nothing_is_told_by_its_exit_code(start):
    host, packages = start("safetensors")
    host.pip_failure.append("Collecting safetensors")
    with pytest.raises(InputError, match="returned non-zero exit status 1"):
        packages.ensurePackages("IPv2 Denoise")


def test_a_python_that_is_not_found_is_no_decline(start, monkeypatch):
    _host, packages = start("safetensors")

    def not_found(*_) -> None:
        raise RuntimeError("PythonSlicer executable not found")

    monkeypatch.setattr("host.packages._run_pip", not_found)
    with pytest.raises(InputError, match="PythonSlicer executable not found"):
        packages.ensurePackages("IPv2 Denoise")


def test_nothing_is_installed_while_slicer_tests(start):
    host, packages = start("safetensors", testing=True)
    with pytest.raises(InputError, match=r"safetensors.*before the tests run"):
        packages.ensurePackages("IPv2 Denoise")
    assert host.installed_packages == []


@pytest.mark.parametrize("version", ["1.13.1", None, "unknown"])
def test_what_is_too_old_or_broken_is_missing(start, monkeypatch, version):
    _host, packages = start()
    found = packages.importlib.metadata.version
    old = {"torch": version}
    monkeypatch.setattr(
        packages.importlib.metadata, "version", lambda name: old.pop(name) if name in old else found(name)
    )
    assert packages.missingPackages() == [packages.TORCH]


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
        packages.ensurePackages("IPv2 Denoise")


def test_no_job_starts_where_an_installation_fails(start):
    host, _ = start("safetensors")
    from IPv2Denoise import IPv2DenoiseLogic

    logic = IPv2DenoiseLogic()
    host.pip_failure.extend(OFFLINE)
    with pytest.raises(InputError, match="no answer from the network"):
        logic.measureDevices()
    assert not logic.runner.state.active and logic.jobKind == ""
