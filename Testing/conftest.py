"""Fixtures shared by every test."""

import os
import signal
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

if "PYTEST_XDIST_WORKER" in os.environ:  # one process a core: one thread each, which sleeps when it waits
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

SLOW_UNITS = {
    "test_ablation", "test_cluster", "test_comparison", "test_denoise", "test_jobs", "test_jobs_places",
    "test_networks", "test_networks_learning", "test_networks_parts", "test_networks_tiles", "test_node",
    "test_phantom", "test_preparation", "test_privacy", "test_purification", "test_quality_benchmark", "test_reading",
    "test_scores", "test_settings_files", "test_training", "test_training_dataset", "test_training_noise",
    "test_training_processes", "test_training_stopping", "test_types",
}  # fmt: skip
"""Files of `unit` that take more than some 15 s."""


def pytest_xdist_auto_num_workers(config):
    """One process more than there are cores: tests of jobs and panels wait for others half of the time."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items):
    """Mark what `./ipv2 test --fast` leaves out."""
    for item in items:
        folder = item.path.parent
        if folder.parent.name == "Testing" and (folder.name != "unit" or item.path.stem in SLOW_UNITS):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of real chest CT volumes, or a skip that says how to provide one."""
    folder = Path(os.environ.get("IPV2_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "nlst_101287.nrrd").exists():
        pytest.skip(f"no real CT volumes in {folder}: set IPV2_DATA to a folder that holds them")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _signals_as_in_a_terminal():
    """`nohup` and shells let processes in the background ignore signals, and those that these start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def _key_of_patients(tmp_path_factory):
    """Labels of patients are made with a key of the tests, not with the user's own."""
    os.environ["IPV2_PATIENT_KEY"] = str(tmp_path_factory.mktemp("key") / "patients.key")
    yield
    del os.environ["IPV2_PATIENT_KEY"]


@pytest.fixture(scope="session", autouse=True)
def _no_answers_of_others():
    """What is denoised is denoised, not taken from the user's cache or that of another test."""
    os.environ["IPV2_CACHE"] = "off"
    yield
    del os.environ["IPV2_CACHE"]


@pytest.fixture(scope="module", autouse=True)
def _no_reading_process_of_other_tests():
    """The process that reads DICOM stays for the next series; some tests count processes."""
    from IPv2Lib.io import reading

    reading.stop()
