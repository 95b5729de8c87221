"""`ipv2 physics`: what is measured and written, what is measured again and what is not, other programs, bad input."""

import csv
import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from IPv2Lib.cli import commands as cli
from IPv2Lib.errors import Cancelled, InputError, IPv2Error
from IPv2Lib.evaluation.physics import phantoms, protocol, realisations
from IPv2Lib.evaluation.physics.experiments import Laboratory
from IPv2Lib.evaluation.physics.realisations import Noise
from IPv2Lib.evaluation.physics.run import measure
from IPv2Lib.evaluation.physics.settings import EXPERIMENTS, PhysicsSettings
from IPv2Lib.inference import commands
from IPv2Lib.inference.denoisers import AsItIs, FilterDenoiser
from IPv2Lib.io import files
from IPv2Lib.io.volume import Volume
from IPv2Lib.progress import Progress
from IPv2Lib.simulation.dose import PHOTONS, physical_noise
from scipy import ndimage

SMOOTH = """
import sys, numpy as np, nrrd
from scipy.ndimage import gaussian_filter
values, header = nrrd.read(sys.argv[1])
nrrd.write(sys.argv[2], gaussian_filter(values, (1, 1, 0)).astype(values.dtype), header)
"""


@pytest.fixture
def fast(monkeypatch):
    """Noise that nobody simulates, only two levels of it, and a small cylinder of water."""
    small = phantoms.water(11)
    phantoms.rods(), phantoms.disks(), phantoms.disks(True), phantoms.disks(False)  # of the usual size

    def noise(self, hu, spacing_mm, kernel, count):
        rng = np.random.default_rng([self.seed, count])
        return 30 * ndimage.gaussian_filter(rng.standard_normal((count, *hu.shape)), (0, 0.6, 0.6))

    monkeypatch.setattr(Noise, "_simulate", noise)
    monkeypatch.setattr(protocol, "SIGMAS_HU", (10.0, 40.0))
    monkeypatch.setattr(protocol, "TEXTURES", ("A", "B"))
    monkeypatch.setattr(phantoms, "water", lambda diameter_cm: small)


@pytest.fixture
def script(tmp_path):
    """Make a Python program; its command."""

    def make(text: str, arguments: str = "{in} {out}") -> str:
        path = tmp_path / "program.py"
        path.write_text(text)
        return f"{sys.executable} {path} {arguments}"

    return make


def settings(*only: str, **more) -> PhysicsSettings:
    return PhysicsSettings(quick=True, only=only or ("response",), **more)


def volume(seed: int = 0) -> Volume:
    rng = np.random.default_rng(seed)
    array = rng.normal(0, 20, (3, 96, 96)).astype(np.float32)
    array[:, :, :10] = -1000
    return Volume(array, (0.75, 0.75, 2.0), (3.0, 4.0, 5.0))


# --- a run ---


def test_run_says_what_a_filter_does_and_writes_everything(tmp_path, fast):
    found = measure(["gaussian"], tmp_path / "out", settings("response", "noise", "rods", "disks", doses=(0.25,)))
    assert all(path.exists() for path in found.files.values())
    assert any("gaussian takes" in each for each in found.sentences)
    rows = json.loads(found.files["results"].read_text())["results"]
    assert {row["condition"]["experiment"] for row in rows} == {"response", "noise", "rods", "disks"}
    for row in rows:
        if row["denoiser"] == "input" and "taken" in row["values"]:
            assert row["values"]["taken"] == 0 and row["values"]["rmsd"] == 0
    for row in rows:
        if row["condition"]["experiment"] == "response" and row["denoiser"] == "gaussian":
            assert row["values"]["sigma_in"] == pytest.approx(row["condition"]["sigma_hu"], rel=0.1)
            assert row["values"]["taken"] > (0.01 if row["condition"]["sigma_hu"] == 40 else -1e-9)
            assert row["values"]["mean_out"] <= row["values"]["mean_in"]
    with open(found.files["table"], newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert {row["denoiser"] for row in table} == {"input", "gaussian"}
    assert any(row["measure"] == "rods/bone/f50" and row["low"] and row["high"] for row in table)
    assert "transfer of bone" in found.files["curves"].read_text()
    with open(found.files["summary"], newline="", encoding="utf-8") as file:
        first, *others = csv.DictReader(file)
    assert first["what"] == "gaussian" and "at 25 % dose" in first["noise"] and "nNPS RMSD" in first["texture"]
    assert "ClariCT.AI" in {each["what"] for each in others}
    facts = json.loads(found.files["provenance"].read_text())
    assert facts["settings"]["seed"] == 0 and facts["denoisers"]["gaussian"]["filter"] == "gaussian"
    assert facts["settings"]["device"] == "cpu" and "IPv2Lib" in facts["versions"]


def test_page_is_well_formed_and_needs_nothing_else(tmp_path, fast):
    page = measure(["gaussian"], tmp_path / "out", settings("response", "noise")).files["report"].read_text()
    open_tags = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag, attributes):
            for name, value in attributes:
                assert name not in ("src", "href") or value.startswith("data:")
            if tag not in ("meta", "img", "br"):
                open_tags.append(tag)

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

    Checker().feed(page)
    assert not open_tags
    for text in (
        "Not for diagnosis",
        "TrueFidelity",
        "What was simulated, and what was not",
        "gaussian",
        "data:image",
        "at −50 % noise",
    ):
        assert text in page
    assert "nan" not in re.sub('data:image[^"]*', "", page)


def test_second_run_measures_only_what_is_new(tmp_path, fast, monkeypatch):
    first = measure(["gaussian"], tmp_path / "out", settings())
    asked = []

    def counted(self, volume, *, slices=None, progress=None):
        asked.append(self.name)
        return volume

    monkeypatch.setattr(FilterDenoiser, "denoise", counted)
    monkeypatch.setattr(AsItIs, "denoise", counted)
    again = measure(["gaussian"], tmp_path / "out", settings())
    assert not asked and again.results == first.results and again.sentences == first.sentences
    measure(["gaussian", "median"], tmp_path / "out", settings())
    assert asked and set(asked) == {"median"}
    asked.clear()
    measure(["gaussian"], tmp_path / "out", settings(seed=1))
    assert set(asked) == {"input", "gaussian"}


def test_same_seed_gives_the_same_numbers(tmp_path, fast):
    a, b = (measure(["median"], tmp_path / name, settings("disks", doses=(0.25,))).results for name in "ab")
    assert a == b


def test_stopped_run_goes_on(tmp_path, fast):
    calls = []

    def cancelled():
        calls.append(1)
        return len(calls) > 12

    with pytest.raises(Cancelled, match="goes on with what was measured"):
        measure(["gaussian"], tmp_path / "out", settings(), progress=Progress(cancelled=cancelled))
    kept = set((tmp_path / "out" / "parts").glob("*.json"))
    assert kept and not (tmp_path / "out" / "report.html").exists()
    found = measure(["gaussian"], tmp_path / "out", settings())
    assert found.files["report"].exists() and kept < set((tmp_path / "out" / "parts").glob("*.json"))


def test_damaged_part_is_measured_again(tmp_path, fast):
    first = measure(["gaussian"], tmp_path / "out", settings())
    for path in (tmp_path / "out" / "parts").glob("*.json"):
        path.write_text("{")
    for path in (tmp_path / "out" / "parts").glob("*.npy"):
        path.write_bytes(b"nothing")
    assert measure(["gaussian"], tmp_path / "out", settings()).results == first.results


def test_lung_of_the_input_has_all_its_nodules_and_no_structure(tmp_path, fast):
    effort = protocol.Effort(noise=10, pairs=1, slices=6, lung=10, lungs=2)
    lab = Laboratory(Noise(tmp_path, 10), effort, lung_size=256)

    def denoise(volume, slices):
        return volume.array[list(slices)]

    quiet = lab.measure(protocol.Condition("lung", 1.0, "hann"), denoise)
    assert quiet["regions"]["soft"]["taken"] == 0 and quiet["structure"]["correlation"] is None
    kept = [one["contrast"] / one["contrast_true"] for one in quiet["nodules"].values() if one["diameter_mm"] > 5]
    assert kept == pytest.approx([1] * len(kept), abs=0.1)
    faint = lab.measure(protocol.Condition("faint", 1.0, "hann"), denoise)
    assert all(one["d"] > 1 for one in faint["disks"].values())
    chest = lab.measure(protocol.Condition("chest", 1.0, "hann"), denoise)
    assert chest["regions"]["parenchyma"]["taken"] == 0 and abs(chest["regions"]["soft"]["bias"]) < 3
    invented = lab.measure(protocol.Condition("invented", 1.0, "hann"), denoise)
    assert invented["invented"] == 0 and invented["patches"] > 10


def test_denoiser_that_returns_the_truth_is_perfect(tmp_path, fast):
    lab = Laboratory(Noise(tmp_path, 10), protocol.QUICK)
    ideal = realisations.truth(phantoms.rods(), "hann")
    rods = lab.measure(
        protocol.Condition("rods", 0.25, "hann"), lambda volume, slices: np.repeat(ideal, len(slices), 0)
    )
    for one in rods["rods"].values():
        assert one["transfer"] == one["truth"]["transfer"] and one["bias"] == 0


# --- noise ---


def test_noise_of_a_kernel_is_the_simulators_own(tmp_path):
    water = phantoms.water(8)
    noise = Noise(tmp_path, 1).of(water, "hann", 0.25)
    own = physical_noise(water.source[None], 0.75, PHOTONS * 0.25, seeds=[1_000_003], kernel="hann")
    mask = water.masks["inside"]
    assert np.abs((noise - own)[0][mask]).max() < 0.1  # kept in half precision
    again = Noise(tmp_path, 1).of(water, "hann", 1.0)
    assert again[0][mask].std() == pytest.approx(noise[0][mask].std() / 2, rel=1e-3)


def test_texture_b_is_white_noise_after_a_gaussian(tmp_path):
    noise = Noise(tmp_path, 1).white((2, 256, 256), 3)
    neighbours = (noise[..., 1:] * noise[..., :-1]).mean()
    assert noise.std() == pytest.approx(1) and neighbours == pytest.approx(np.exp(-1 / (4 * 0.49)), abs=0.03)


def test_quick_measures_a_part_of_everything():
    quick, full = (protocol.conditions(PhysicsSettings(quick=each)) for each in (True, False))
    assert set(quick) < set(full) and 3 * len(quick) < 2 * len(full)
    for each in (quick, full):
        assert {condition.experiment for condition in each} == set(EXPERIMENTS)
        assert {condition.dose for condition in each if condition.experiment == "noise"} == {
            0.02, 0.05, 0.1, 0.25, 0.5, 1.0,
        }  # fmt: skip
        assert {condition.kernel for condition in each if condition.kernel} == {"soft", "hann", "sharp"}
    assert {each.size_cm for each in full if each.size_cm} == {16, 22, 32}


# --- scans of one's own ---


@pytest.fixture
def scans(tmp_path):
    """Two scans of a phantom of water in air."""
    distance = np.hypot(*(np.indices((128, 128)) - 63.5))
    base = np.where(distance < 58, 0.0, -1000.0)
    made = []
    for seed in (1, 2):
        noise = np.random.default_rng(seed).normal(0, 20, (2, 128, 128))
        made.append(files.write(Volume((base + noise).astype(np.float32), (0.8, 0.8, 3.0)), tmp_path / f"{seed}.nrrd"))
    return [str(path) for path in made]


def test_two_scans_of_a_phantom(tmp_path, fast, scans):
    found = measure(["gaussian:8"], tmp_path / "out", settings(scans=tuple(scans)))
    own = {each.denoiser: each.values for each in found.results if each.condition["experiment"] == "scans"}
    assert own["input"]["sigma_in"] == pytest.approx(20, rel=0.05) and own["input"]["taken"] == 0
    assert own["gaussian 8"]["taken"] > 0.3
    assert any("1.nrrd and 2.nrrd" in each for each in found.sentences)


def test_series_gets_a_second_realisation(tmp_path, fast, scans):
    found = measure(["gaussian"], tmp_path / "out", settings(series=scans[0], series_dose=0.5))
    own = {each.denoiser: each.values for each in found.results if each.condition["experiment"] == "series"}
    assert own["gaussian"]["taken"] > 0 and own["input"]["sigma_in"] > 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, b: (a, a), "the same image"),
        (lambda a, b: (a, b.with_array(b.array[:1])), "give two scans of one phantom in the same place"),
        (lambda a, b: (a.with_array(a.array - 900), b.with_array(b.array - 900)), "too few to measure noise"),
        (lambda a, b: (a.with_array(a.array + 5000), b), "not a CT"),
    ],
)
def test_scans_that_cannot_be_measured(tmp_path, fast, scans, change, message):
    pair = change(*map(files.read, scans))
    names = [str(files.write(each, tmp_path / f"changed{place}.nrrd")) for place, each in enumerate(pair)]
    with pytest.raises(InputError, match=message):
        measure(["gaussian"], tmp_path / "out", settings(scans=tuple(names)))
    assert not (tmp_path / "out").exists()


# --- other programs ---


def test_program_is_measured_as_what_it_does(tmp_path, fast, script, monkeypatch):
    monkeypatch.setattr(protocol, "SIGMAS_HU", (20.0,))
    found = measure([], tmp_path / "out", settings(command=(f"mine={script(SMOOTH)}",)))
    taken = {each.condition["texture"]: each.values["taken"] for each in found.results if each.denoiser == "mine"}
    assert taken["A"] > 0.3
    assert taken["B"] == pytest.approx(1 - 0.7 / np.hypot(0.7, 1.0), abs=0.05)
    assert json.loads(found.files["provenance"].read_text())["denoisers"]["mine"]["command"].endswith("{in} {out}")


@pytest.mark.parametrize(("exchange", "error"), [("nrrd", 0.0), ("dicom", 0.5)])
def test_program_gets_a_scan_and_gives_one_back(script, exchange, error):
    copy = "import sys, shutil, os; a, b = sys.argv[1:]; "
    copy += "shutil.copytree(a, b, dirs_exist_ok=True) if os.path.isdir(a) else shutil.copy(a, b)"
    result = commands.from_text(script(copy), exchange, 60).denoise(volume())
    assert np.abs(result.array - volume().array).max() <= error
    assert result.spacing == volume().spacing and result.origin == volume().origin


def test_program_that_takes_folders_and_only_some_slices(script):
    text = SMOOTH.replace("sys.argv[1]", "sys.argv[1] + '/scan.nrrd'").replace(
        "sys.argv[2]", "sys.argv[2] + '/scan.nrrd'"
    )
    result = commands.from_text(script(text, "{in_folder} {out_folder}"), "nrrd", 60).denoise(volume(), slices=[1])
    assert (
        np.array_equal(result.array[[0, 2]], volume().array[[0, 2]]) and result.array[1].std() < volume().array[1].std()
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import sys; print('no licence'); sys.exit(3)", "failed with exit code 3; it said: no licence"),
        ("", "wrote nothing to {out}; it said nothing"),
        ("import sys; open(sys.argv[2], 'w').write('x')", "wrote cannot be read"),
        (SMOOTH.replace("values, (1, 1, 0)", "values[:50], (1, 1, 0)"), "changed the geometry"),
        (SMOOTH.replace(".astype", ".clip(np.nan).astype"), "NaN or infinite"),
        ("import time; time.sleep(60)", "was stopped after 1 s"),
    ],
)
def test_program_that_fails(script, text, message):
    with pytest.raises(IPv2Error, match=message.replace("{", r"\{")):
        commands.from_text(f"mine={script(text)}", "nrrd", 1 if "sleep" in text else 60).denoise(volume())


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("cp {in} here", "needs {in} and {out}"),
        ("", "needs {in} and {out}"),
        ("no-such-program {in} {out}", "is not there"),
        ("cp '{in} {out}", "cannot be read"),
    ],
)
def test_command_that_cannot_be_run(command, message):
    with pytest.raises(InputError, match=message.replace("{", r"\{")):
        commands.from_text(command, "nrrd", 60)


def test_changed_program_has_another_key(script):
    first = commands.from_text(script("print(1)"), "nrrd", 60).key
    assert commands.from_text(script("print(1)"), "nrrd", 60).key == first
    assert commands.from_text(script("print(2)"), "nrrd", 60).key != first


# --- the command ---


def test_command_line(tmp_path, fast, capsys):
    arguments = ["physics", "gaussian", "--quick", "--only", "response", "--out", str(tmp_path / "out")]
    assert cli.main(arguments) == 0
    assert "gaussian takes" in capsys.readouterr().out
    assert cli.main([*arguments, "--json"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["event"] == "result" and last["files"]["report"].endswith("report.html")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-model"], "no-such-model"),
        ([], "there is nothing to measure"),
        (["input"], "there is nothing to measure"),
        (["tv", "--doses", "0"], "dose is 0.0"),
        (["tv", "--only", "everything"], "unknown"),
        (["tv", "--scans", "one"], "give two"),
        (["tv", "--series", "nowhere.nrrd"], "nowhere.nrrd"),
        (["--command", "cp {in}"], "needs {in} and {out}"),
    ],
)
def test_bad_input_is_one_line_and_no_folder(tmp_path, capsys, arguments, message):
    assert cli.main(["physics", *arguments, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and not (tmp_path / "out").exists()


def test_folder_of_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert cli.main(["physics", "tv", "--out", str(tmp_path / "out")]) == 2
    assert "no earlier result" in capsys.readouterr().err
