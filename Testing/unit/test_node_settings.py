"""The file of a node: what it may say, what is refused, and which rule fits a series."""

import json
from pathlib import Path

import pytest
from dicom_samples import HU, write_enhanced, write_scan
from IPv2Lib.cli.commands import main
from IPv2Lib.errors import InputError
from IPv2Lib.node import rules, settings
from node_peers import DENOISE, SETTINGS, node_file

EXAMPLE = Path(__file__).resolve().parents[2] / "Resources" / "Node" / "node.toml"


def test_the_example_is_what_a_node_takes(tmp_path):
    found = settings.read(EXAMPLE)
    assert [each.action for each in found.rules] == ["keep", "keep", "denoise"]
    assert found.rules[2].denoise.model == "ipv2-fast"
    assert found.address == "127.0.0.1"


def test_paths_are_relative_to_the_file(tmp_path):
    found = settings.read(node_file(tmp_path, rules=f'{DENOISE}\n[tls]\ncertificate = "me.pem"\n'))
    assert (found.folder, found.tls.certificate) == (str(tmp_path / "queue"), str(tmp_path / "me.pem"))
    assert found.tls.ca == ""


@pytest.mark.parametrize(
    ("changes", "rules", "said"),
    [
        ({"prot": 104}, DENOISE, "unknown setting prot: use folder, ae_title,"),
        ({"port": 70000}, DENOISE, "port is 70000: it must be from 0 to 65535"),
        ({"port": "104"}, DENOISE, 'port is "104": give a whole number'),
        ({"folder": ""}, DENOISE, "it names no folder"),
        ({"callers": []}, DENOISE, "it names nobody who may call"),
        ({"callers": ["a title that is too long"]}, DENOISE, "is no AE title"),
        ({"retry_seconds": [9, 1]}, DENOISE, "range of pauses is 9 to 1"),
        ({}, "", "it has no rule"),
        ({}, "[[rules]]\n", "rules[0] names no destination"),
        ({}, DENOISE + '[[rules]]\ndestinations = ["x"]', "rules[1] names the destination 'x': use pacs"),
        ({}, '[[rules]]\naction = "drop"', "unknown action 'drop': use denoise, forward, keep"),
        ({}, "[[rules]]\nkernels = 1", "unknown setting rules[0].kernels: use description, kernel,"),
        ({}, "[[rules]]\ndenoise = {strength = 2}", "strength is 2"),
        ({}, "[[rules]]\nkernel = 2020-01-01", 'rules[0].kernel is "2020-01-01": give a text in quotes'),
        ({}, "[[rules]\n", "is no TOML"),
    ],
)
def test_what_a_file_cannot_say_is_refused_by_its_name(changes, rules, said, tmp_path):
    with pytest.raises(InputError) as caught:
        settings.read(node_file(tmp_path, rules, **changes))
    assert str(caught.value).startswith(str(tmp_path / "node.toml"))
    assert said in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path, capfd):
    assert main(["node", str(tmp_path / "no.toml")]) == 2
    assert "no.toml cannot be read" in capfd.readouterr().err


RULES = """
[[rules]]
image_type = "*localizer*"
action = "keep"
[[rules]]
description = "chest*"
kernel = "B5?F"
thickness = [0, 3]
denoise = {model = "ipv2-fast", strength = 0.5}
destinations = ["pacs"]
[[rules]]
thickness = [0, 1]
action = "forward"
destinations = ["pacs"]
"""


@pytest.mark.parametrize(
    ("elements", "number"),
    [
        ({}, 1),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, 0),
        ({"ConvolutionKernel": "I50f"}, None),
        ({"SeriesDescription": "Abdomen"}, None),
        ({"SliceThickness": 5}, None),
        ({"SliceThickness": None}, None),
        ({"SliceThickness": 0.6, "ConvolutionKernel": None}, 2),
    ],
)
def test_the_first_rule_that_fits_counts(elements, number, tmp_path, capfd):
    file, scan = node_file(tmp_path, RULES), write_scan(tmp_path / "scan", HU, **elements)
    assert main(["node", "--check", "--json", str(file), str(scan)]) == 0
    said = json.loads(capfd.readouterr().out)
    assert said["results"][0]["rule"] == number
    assert rules.of_series(settings.read(file).rules, next(scan.iterdir()))[1] == number


def test_an_enhanced_series_says_it_in_functional_groups(tmp_path):
    found = settings.read(node_file(tmp_path, '[[rules]]\nthickness = [3, 3]\naction = "keep"'))
    facts, number = rules.of_series(found.rules, write_enhanced(tmp_path / "scan.dcm"))
    assert (facts.thickness, number) == (3, 0)


def test_a_check_says_what_each_rule_does(tmp_path, capfd):
    assert main(["node", "--check", str(node_file(tmp_path, RULES))]) == 0
    first, second, third = capfd.readouterr().out.splitlines()
    assert "is kept here and not sent" in first
    assert "is denoised with ipv2-fast at strength 0.5, for pacs" in second
    assert "is sent on as it is to pacs" in third


def test_a_model_that_is_not_there_is_named_at_once(tmp_path, capfd):
    file = node_file(tmp_path, DENOISE.replace("ipv2-fast", "no-such-model"))
    assert main(["node", str(file)]) == main(["node", "--check", str(file)]) == 2
    assert "no-such-model" in capfd.readouterr().err
    assert not list((tmp_path / SETTINGS["folder"]).glob("series/*"))


def test_series_are_for_a_check_only(tmp_path, capfd):
    assert main(["node", str(node_file(tmp_path)), "scan"]) == 2
    assert "named with --check" in capfd.readouterr().err
