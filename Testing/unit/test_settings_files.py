"""Settings as files: what every field is after the way through a file and a command, and what is refused."""

import argparse
import dataclasses
import json
from decimal import Decimal
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from IPv2Lib import options
from IPv2Lib.analysis.spheres import SphereOptions
from IPv2Lib.cli import arguments, commands
from IPv2Lib.datasets.settings import PreparationSettings
from IPv2Lib.datasets.shards import SPLITS
from IPv2Lib.datasets.strategies import PURIFIED, STRATEGIES
from IPv2Lib.errors import InputError
from IPv2Lib.evaluation.settings import AblationSettings, ComparisonSettings
from IPv2Lib.inference.engines import ENGINES
from IPv2Lib.inference.options import DenoiseOptions
from IPv2Lib.io import settings_file
from IPv2Lib.networks import registry
from IPv2Lib.parallel.options import Workers
from IPv2Lib.purification.settings import IPV1, Settings
from IPv2Lib.training.losses import LOSSES
from IPv2Lib.training.settings import PAIRS, PRECISIONS, Ranges, TrainingSettings, read_settings, write_settings


def numbers(least: float, most: float) -> st.SearchStrategy[float]:
    return st.floats(least, most, allow_subnormal=False)


def ordered(of: st.SearchStrategy) -> st.SearchStrategy[tuple]:
    return st.tuples(of, of).map(sorted).map(tuple)


def whole(least: int = 1) -> st.SearchStrategy[int]:
    return st.integers(least, 10**9)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
ARGUMENTS = st.dictionaries(TEXTS, st.one_of(whole(), st.booleans(), TEXTS, st.lists(numbers(-1, 1))), max_size=3)
DEVICES = st.sampled_from(["auto", "cpu", "cuda:3", "mps"])
KERNELS = st.one_of(st.sampled_from(["soft", "hann", "ramp", "sharp", "matched"]), numbers(-1, 2))
TRAINED = [name for name in registry.names() if not registry.summary(name).zero_shot]

FIELDS = {
    Ranges: {
        "dose": ordered(numbers(1e-4, 1)), "photons": ordered(numbers(1, 1e9)), "sharpness": ordered(numbers(-1, 2)),
        "zoom": ordered(numbers(0.25, 4)), "motion_mm": ordered(numbers(0, 50)),
        "thickness": ordered(st.integers(1, 8)), "band": ordered(numbers(0, 3)), "modulation": ordered(numbers(0, 1)),
    },
    TrainingSettings: {
        "network": st.sampled_from(TRAINED), "arguments": ARGUMENTS, "start_from": st.none() | TEXTS,
        "strategy": st.sampled_from(STRATEGIES), "blend": st.none() | numbers(0, 1), "pairs": st.sampled_from(PAIRS),
        "ranges": ..., "steps": whole(), "epochs": st.none() | numbers(1e-9, 1e9),
        "minutes": st.none() | numbers(0.1, 1e9),
        "batch": st.integers(1, 65_536), "patch": st.integers(1, 4096),
        "learning_rate": numbers(1e-12, 1), "average": numbers(0, 0.9999999),
        "loss": st.sampled_from(sorted(LOSSES)), "small_error": numbers(1e-9, 9), "bias_weight": numbers(0, 9),
        "bias_pixels": st.integers(1, 64),
        "variance_weight": numbers(0, 9), "blocks": st.none() | whole(), "keep_blocks": st.none() | TEXTS,
        "pool": st.integers(1, 4096), "steps_per_case": whole(), "seed": whole(0), "device": DEVICES,
        "precision": st.sampled_from(PRECISIONS), "compile": st.booleans(), "validate_every": whole(),
        "checkpoint_minutes": numbers(1e-9, 1e9),
    },
    Settings: {
        "remove_background": st.booleans(), "add_noise": st.booleans(), "remove_noise": st.booleans(),
        "blend": numbers(0, 1), "low_hu": numbers(-3000, -100), "high_hu": numbers(-99, 3000),
        "threshold_hu": st.none() | numbers(-3000, 3000), "drop_enclosed_air": st.booleans(), "dose": numbers(1e-9, 1),
        "method": st.sampled_from(["physical", "published"]), "kernel": KERNELS, "seed": whole(0),
        "weak_strength": numbers(0, 9),
    },
    PreparationSettings: {
        "fractions": st.tuples(numbers(0, 0.5), numbers(0, 0.5)).map(lambda two: (1 - sum(two), *two)),
        "seed": whole(0), "split_projections": st.booleans(), "keep_patient_names": st.booleans(),
        "drop_enclosed_air": st.booleans(),
        "low_hu": numbers(-3000, -100), "high_hu": numbers(-99, 3000),
        "threshold_hu": st.none() | numbers(-3000, 3000), "weak_strength": numbers(0, 9), "workers": whole(0),
        "scheduler": st.none() | TEXTS, "retries": whole(0),
    },
    ComparisonSettings: {
        "split": st.sampled_from(SPLITS), "slices_per_case": st.none() | whole(),
        "reference": st.sampled_from(["both", "ground_truth", "label"]), "label_strategy": st.sampled_from(PURIFIED),
        "features": st.none() | TEXTS, "flow_steps": st.none() | whole(), "bootstrap": whole(0), "seed": whole(0),
        "device": DEVICES,
    },
    DenoiseOptions: {
        "strength": numbers(0, 1), "device": DEVICES, "engine": st.sampled_from(ENGINES),
        "keep_outside_body": st.booleans(), "residual_noise_hu": st.none() | numbers(0, 1000),
        "test_time_augmentation": st.booleans(), "statistics": st.booleans(), "reliability": st.booleans(),
        "compress": st.booleans(), "cache": st.booleans(), "model": st.none() | TEXTS, "batch": st.none() | whole(),
        "tile": st.none() | whole(64),
    },
    SphereOptions: {"diameter_mm": numbers(3, 20)},
    Workers: {"workers": whole(0), "scheduler": st.none() | TEXTS, "retries": whole(0)},
    AblationSettings: {
        "strategies": st.lists(st.sampled_from(STRATEGIES)).map(tuple),
        "networks": st.lists(st.sampled_from(TRAINED)).map(tuple),
        "arguments": ARGUMENTS, "seeds": whole(), "steps": whole(), "batch": st.integers(1, 65_536),
        "patch": st.integers(1, 4096),
        "learning_rate": numbers(1e-12, 1), "device": DEVICES, "split": st.sampled_from(SPLITS),
        "slices_per_case": st.none() | whole(),
    },
}  # fmt: skip
"""Every field of every dataclass of settings, and what it may be."""


@st.composite
def any_of(draw, kind: type):
    """Settings with values for all fields, of those that go together."""
    values = {name: draw(any_of(Ranges) if values is ... else values) for name, values in FIELDS[kind].items()}
    try:
        return kind(**values)
    except InputError:
        assume(False)


KINDS = [kind for kind in FIELDS if kind not in (Ranges, Workers, SphereOptions)]  # which have no command of their own
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
many = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow,
                                          HealthCheck.function_scoped_fixture]
)  # fmt: skip


@pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.__name__)
def test_every_field_is_tested_here(kind):
    assert list(FIELDS[kind]) == [each.name for each in dataclasses.fields(kind)]


class Told(InputError):
    """Ends a command when it has said what is to be done."""


def told(command: list[str], function: str) -> mock.Mock:
    """The call of a function of the library that a command leads to."""
    reading = (mock.patch(f"IPv2Lib.cli.{name}.read", return_value=(mock.Mock(), [])) for name in ("denoise", "purify"))
    with mock.patch(f"IPv2Lib.{function}", side_effect=Told("that is all")) as called, next(reading), next(reading):
        assert commands.main([str(word) for word in command]) == commands.BAD_INPUT
    assert called.call_count == 1
    return called.call_args


def of_train(words, folder):
    return told(["train", folder / "scan.nrrd", "--out", folder / "run", *words], "training.loop.train").args[2]


def of_purify(words, folder):
    scan = folder / "scan.nrrd"
    return told(["purify", scan, scan, folder / "stages", *words], "purification.purify.purify").args[2]


def of_prepare(words, folder):
    call = told(["prepare", folder / "scan.nrrd", "--out", folder / "data", *words], "datasets.preparation.prepare")
    assert call.args[0][0].seed == call.kwargs["seed"]
    return PreparationSettings(**{name: call.kwargs[name] for name in FIELDS[PreparationSettings]})


def of_compare(words, folder):
    call = told(
        ["compare", folder, "--models", "input", "--out", folder / "c", *words], "evaluation.comparison.compare"
    )
    return ComparisonSettings(**{name: call.kwargs[name] for name in FIELDS[ComparisonSettings]})


def of_ablation(words, folder):
    values = told(["ablation", folder, "--out", folder / "a", *words], "evaluation.ablation.ablate").kwargs
    return AblationSettings(**{name: values[name] for name in FIELDS[AblationSettings]})


def of_denoise(words, folder):
    scan = folder / "scan.nrrd"
    model = mock.patch("IPv2Lib.cli.denoise.load_model")
    device = mock.patch("IPv2Lib.inference.denoise.choose_device", side_effect=lambda name, engine: name)
    engine = mock.patch("IPv2Lib.inference.engines.choose_engine")
    kept = mock.patch("IPv2Lib.inference.denoise.residual_noise_of", side_effect=lambda model, kept: kept)
    with model, device, engine, kept:
        return told(["denoise", scan, folder / "out.nrrd", *words], "inference.cohort.denoise_to_file").args[4]


COMMANDS = {
    DenoiseOptions: of_denoise,
    TrainingSettings: of_train,
    Settings: of_purify,
    PreparationSettings: of_prepare,
    ComparisonSettings: of_compare,
    AblationSettings: of_ablation,
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "scan.nrrd").touch()
    return tmp_path


@every_kind
def test_every_field_comes_through_file_and_command(folder, kind):
    @many
    @given(any_of(kind))
    def check(wanted):
        path = folder / "settings.json"
        settings_file.write(wanted, path)
        assert settings_file.read(path, kind()) == wanted
        assert COMMANDS[kind](["--settings", path], folder) == wanted

    check()


@many
@given(any_of(TrainingSettings))
def test_a_run_keeps_its_settings(tmp_path, wanted):
    write_settings(wanted, tmp_path)
    assert read_settings(tmp_path) == wanted


@every_kind
def test_without_a_file_the_defaults_are_the_command_s(folder, kind):
    assert COMMANDS[kind]([], folder) == kind()
    (folder / "empty.json").write_text("{}")
    assert COMMANDS[kind](["--settings", folder / "empty.json"], folder) == kind()


@pytest.mark.parametrize(
    ("kind", "values", "words", "expected"),
    [
        (
            TrainingSettings,
            {"minutes": 30, "seed": 1, "arguments": {"a": 1, "b": 2}, "ranges": {"dose": [0.1, 0.2], "band": [0, 1]}},
            ["--steps", "7", "--argument", "b=3", "--dose", "0.3", "0.4", "--motion", "1", "2"],
            TrainingSettings(
                steps=7, seed=1, arguments={"a": 1, "b": 3},
                ranges=Ranges(dose=(0.3, 0.4), band=(0, 1), motion_mm=(1, 2)),
            ),
        ),
        (TrainingSettings, {"epochs": 3}, ["--minutes", "5"], TrainingSettings(minutes=5)),
        (TrainingSettings, {"compile": True}, ["--seed", "2"], TrainingSettings(compile=True, seed=2)),
        (Settings, {"dose": 0.1}, ["--strategy", "ipv1", "--seed", "3"], dataclasses.replace(IPV1, dose=0.1, seed=3)),
        (Settings, {"add_noise": True}, ["--no-add-noise", "--window", "-900", "300"],
         Settings(add_noise=False, low_hu=-900, high_hu=300)),
        (
            PreparationSettings, {"fractions": [0.5, 0.25, 0.25], "seed": 4, "split_projections": True},
            ["--split", "60", "20", "20", "--workers", "2", "--window", "-900", "300"],
            PreparationSettings((0.6, 0.2, 0.2), 4, True, low_hu=-900, high_hu=300, workers=2),
        ),
        (ComparisonSettings, {"bootstrap": 5, "device": "cpu"}, ["--slices", "3", "--seed", "1"],
         ComparisonSettings(bootstrap=5, device="cpu", slices_per_case=3, seed=1)),
        (AblationSettings, {"seeds": 5, "slices_per_case": 3}, ["--slices", "0", "--lr", "0.01"],
         AblationSettings(seeds=5, slices_per_case=None, learning_rate=0.01)),
        (AblationSettings, {"slices_per_case": None}, ["--networks", "unet", "redcnn"],
         AblationSettings(slices_per_case=None, networks=("unet", "redcnn"))),
    ],
)  # fmt: skip
def test_options_count_more_than_the_file(folder, kind, values, words, expected):
    (folder / "some.json").write_text(json.dumps(values))
    assert COMMANDS[kind](["--settings", folder / "some.json", *words], folder) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"step": 3}', "unknown setting step: use network"),
        ('{"ranges": {"doses": [0.1, 0.2]}}', "unknown setting ranges.doses: use dose"),
        ('{"steps": "3"}', 'steps is "3": give a whole number'),
        ('{"steps": 2.5}', "steps is 2.5: give a whole number"),
        ('{"steps": true}', "steps is true: give a whole number"),
        ('{"steps": null}', "steps is null: give a whole number"),
        ('{"steps": 0}', "steps is 0: it must be 1 or more"),
        ('{"compile": 1}', "compile is 1: give true or false"),
        ('{"minutes": "long"}', 'minutes is "long": give a number or null'),
        ('{"learning_rate": 1e999}', "learning_rate is Infinity: give a number"),
        ('{"learning_rate": NaN}', "NaN is no number"),
        ('{"network": 5}', "network is 5: give a text in quotes"),
        ('{"network": "resnet"}', "resnet"),
        ('{"arguments": [1]}', "arguments is [1]: give an object"),
        ('{"ranges": [1, 2]}', "ranges is [1, 2], not a JSON object"),
        ('{"ranges": {"dose": 0.1}}', "ranges.dose is 0.1: give [a number, a number]"),
        ('{"ranges": {"dose": [0.1]}}', "ranges.dose is [0.1]: give [a number, a number]"),
        ('{"ranges": {"dose": [0.1, 0.2, 0.3]}}', "ranges.dose is [0.1, 0.2, 0.3]"),
        ('{"ranges": {"thickness": [1, 1.5]}}', "ranges.thickness is [1, 1.5]: give [a whole number, a whole number]"),
        ('{"ranges": {"dose": [0.5, 0.1]}}', "range of dose is 0.5 to 0.1"),
        ('{"seed": 1, "seed": 2}', "'seed' is given twice"),
        ('{"epochs": 1, "minutes": 2}', "give one of them"),
        ("[]", "the settings are [], not a JSON object"),
        ("{", "no JSON"),
        ("[" * 5000, "no JSON"),
        ("\xff", "no JSON"),
    ],
)  # fmt: skip
def test_what_a_file_may_not_say_is_refused_by_name(tmp_path, capsys, text, words):
    path = tmp_path / "settings.json"
    path.write_bytes(text.encode("latin-1"))
    assert (
        commands.main(["train", "scan.nrrd", "--out", str(tmp_path / "run"), "--settings", str(path)])
        == commands.BAD_INPUT
    )
    said = capsys.readouterr().err
    assert words in said and len(said.splitlines()) == 1 and str(path) in said
    assert not (tmp_path / "run").exists()


def test_a_whole_number_may_be_written_with_a_point_and_a_file_may_have_a_mark_at_its_start(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text('{"steps": 20.0, "minutes": null, "learning_rate": 1}', encoding="utf-8-sig")
    found = settings_file.read(path, TrainingSettings())
    assert found == TrainingSettings(steps=20, learning_rate=1.0) and type(found.steps) is int


@pytest.mark.parametrize(
    "command", ["train --resume --out RUN --settings FILE", "train SCAN --out RUN --settings NONE"]
)
def test_settings_that_cannot_be_used_at_all(tmp_path, capsys, command):
    (tmp_path / "FILE").write_text("{}")
    words = [word if word.islower() or word.startswith("--") else str(tmp_path / word) for word in command.split()]
    assert commands.main(words) == commands.BAD_INPUT
    said = capsys.readouterr().err
    assert ("keeps its settings" in said or "cannot be read" in said) and len(said.splitlines()) == 1


def test_numbers_of_numpy_and_paths_are_written_as_what_they_mean(tmp_path):
    wanted = TrainingSettings(
        steps=np.int64(7), minutes=np.float64(0.1), arguments={"channels": (np.int32(4), 8)},
        start_from=tmp_path, ranges=Ranges(dose=np.array([0.125, 0.25])),
    )  # fmt: skip
    settings_file.write(wanted, tmp_path / "settings.json")
    assert settings_file.read(tmp_path / "settings.json", TrainingSettings()) == TrainingSettings(
        minutes=0.1,
        steps=7,
        arguments={"channels": [4, 8]},
        start_from=str(tmp_path),
        ranges=Ranges(dose=(0.125, 0.25)),
    )


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"steps": 2.5}, "steps is 2.5: give a whole number"),
        ({"arguments": {"x": object()}}, "arguments is .*cannot hold"),
        ({"arguments": {"x": float("nan")}}, "arguments is .*cannot hold"),
        ({"keep_blocks": "\udcff"}, "keep_blocks is .*cannot hold"),
    ],
)
def test_what_no_file_can_hold_is_refused_by_name_and_leaves_none(tmp_path, wrong, words):
    with pytest.raises(InputError, match=words):
        settings_file.write(TrainingSettings(**wrong), tmp_path / "settings.json")
    assert list(tmp_path.iterdir()) == []


def test_a_field_of_a_kind_that_no_file_can_hold_fails_at_once(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Later:
        new: set[int] = frozenset()

    with pytest.raises(InputError, match="new"):
        settings_file.write(Later(), tmp_path / "settings.json")
    with pytest.raises(TypeError, match="cannot be in a file"):
        settings_file.from_dict({"new": [1]}, Later())


# --- declarations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.__name__)
def test_every_field_says_what_it_is_and_what_it_may_be(kind):
    declared = options.declarations(kind)
    assert list(declared) == [each.name for each in dataclasses.fields(kind)]
    for name, its in declared.items():
        assert len(its.help) > 3 and its.help == its.help.strip(" ."), name
        of = options.kind_of(kind, name).of
        if of in (int, float):
            assert its.unit is not None, f"{name} is a number: declare its unit, or that it has none"
            assert its.unit or options.limits(its), f"{name} is a number: declare its limits"
        assert its.help.partition("; ")[0] in options.words(kind, name)
    assert {row[0].partition(".")[0] for row in options.reference(kind)} == set(declared)


def decimal(number: float) -> str:
    """A number without an exponent, which argparse takes for an option where it is negative."""
    return format(Decimal(repr(number)), "f")


def arguments_of(wanted) -> list[str]:
    """A command line that says every field of settings that can be said there."""
    found: list[str] = []
    said: dict[str, list[str]] = {}
    for name, declared in options.declarations(type(wanted)).items():
        value, written = getattr(wanted, name), options.flags(name, declared)
        if dataclasses.is_dataclass(value):
            found += arguments_of(value)
        elif not written or (value is None and not declared.none_flag):
            continue
        elif isinstance(value, bool):
            found.append(written[0] if value else written[0].replace("--", "--no-", 1))
        elif isinstance(value, dict):
            found += [word for key, each in value.items() for word in (written[0], f"{key}={json.dumps(each)}")]
        elif value is None:
            found += [written[0], str(declared.none_value)]
        else:
            values = value if isinstance(value, tuple) else (value,)
            values = [each * 100 if declared.flag_percent else each for each in values]
            said.setdefault(written[0], []).extend(each if isinstance(each, str) else decimal(each) for each in values)
    for flag, values in said.items():
        found += [f"{flag}={values[0]}"] if len(values) == 1 else [flag, *values]
    return found


def sayable(wanted):
    """Settings with defaults where a command line cannot say the value."""
    changes = {}
    for name, declared in options.declarations(type(wanted)).items():
        value = getattr(wanted, name)
        if dataclasses.is_dataclass(value):
            changes[name] = sayable(value)
        elif not options.flags(name, declared) or (value is None and not declared.none_flag):
            changes[name] = getattr(type(wanted)(), name)
        elif isinstance(value, dict):
            changes[name] = {key: each for key, each in value.items() if key.isidentifier()}
        elif isinstance(value, tuple) and not value:
            changes[name] = getattr(type(wanted)(), name)
    given = [name for name in ("minutes", "epochs") if changes.get(name, getattr(wanted, name, None)) is not None]
    if given:  # instead of steps
        changes["steps"] = type(wanted)().steps
    return dataclasses.replace(wanted, **changes)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_comes_through_a_command_line(kind):
    parser = argparse.ArgumentParser()
    arguments.add(parser, kind)

    @many
    @given(any_of(kind))
    def check(wanted):
        wanted = sayable(wanted)
        words = arguments_of(wanted)
        if getattr(wanted, "minutes", None) or getattr(wanted, "epochs", None):
            words = [word for word in words if not word.startswith("--steps=")]
        found = arguments.chosen(parser.parse_args(words), kind())
        for each in dataclasses.fields(kind):
            value = getattr(wanted, each.name)
            if options.declarations(kind)[each.name].flag_percent:
                value = pytest.approx(value)
            assert getattr(found, each.name) == value, each.name

    check()


@pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.__name__)
def test_every_option_of_a_panel_comes_through_its_parameters(kind):
    @many
    @given(any_of(kind))
    def check(wanted):
        for name, declared in options.declarations(kind).items():
            if declared.panel and not (name == "threshold_hu" and wanted.threshold_hu is None):  # a choice of its own
                value = getattr(wanted, name)
                found = options.from_panel(kind, name, options.panel_value(kind, name, value))
                assert found == (pytest.approx(value) if declared.percent else value), name

    check()
