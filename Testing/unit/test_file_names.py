"""Names, files and folders of results: taken by every system, never another's, whole or not there."""

import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from IPv2Lib.io import outputs

# --- names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, name",
    [
        ("4: Thorax 1.0 B31f", "4_ Thorax 1.0 B31f"),
        ('3: Lung 1,0 mm <I> "hr"', "3_ Lung 1,0 mm _I_ _hr_"),
        ("a/b\\c|d?e*f", "a_b_c_d_e_f"),
        ("chest. . ", "chest"),
        ("  chest", "chest"),
        ("one\ntwo\x00three\x7f", "one_two_three_"),
        ("con", "_con"),
        ("Aux.nrrd", "_Aux.nrrd"),
        ("COM¹", "_COM¹"),
        ("LPT3 .x", "_LPT3 .x"),
        ("CONTRAST", "CONTRAST"),
        ("COM10", "COM10"),
        (".hidden", "_hidden"),
        ("..", "unnamed"),
        ("", "unnamed"),
        ("Thorax – größer, 肺", "Thorax – größer, 肺"),
        ("scan\udcff", "scan_"),
        ("肺" * 100, "肺" * 66),
    ],
)
def test_a_name_that_every_system_takes(text, name):
    assert outputs.file_name(text) == name


@given(st.text() | st.text(alphabet="CONcon1. :_", max_size=8) | st.text(min_size=150, max_size=300))
@example("CON" + 220 * " " + "x")
@example("CON." + 300 * "x")
@example("e" * 199 + "\u0301")
def test_every_name_is_one_that_windows_takes_and_stays_as_it_is(text):
    name = outputs.file_name(text)
    assert name and len(name.encode()) <= outputs.LONGEST_NAME
    assert not re.search(r'[<>:"/\\|?*\x00-\x1f]', name)
    assert name[-1] not in ". " and name[0] not in ". "
    assert not re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)", name.split(".")[0].rstrip(" "))
    assert unicodedata.is_normalized("NFC", name)
    assert outputs.file_name(name) == name


def test_names_of_outputs_are_whole_and_of_one_input_each(tmp_path):
    folders = [tmp_path / patient / "4: Thorax 1.0 B31f" for patient in "AB"]
    for folder in folders:
        folder.mkdir(parents=True)
    paths = [
        *folders,
        Path("aux.nrrd"),
        Path("Scan.NII.GZ"),
        Path("scan.nrrd"),
        Path(".nrrd"),
        Path("x" * 240 + ".nrrd"),
    ]
    paths += [Path("x" * 245 + ".mha"), Path("e\u0301.nrrd"), Path("é.nrrd")]
    names = outputs.unique_names(paths, taken=["SCAN"])
    assert names[:6] == ["4_ Thorax 1.0 B31f", "4_ Thorax 1.0 B31f-2", "_aux", "Scan-2", "scan-3", "_nrrd"]
    assert names[6:] == ["x" * 200, "x" * 198 + "-2", "é", "é-2"]
