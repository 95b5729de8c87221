"""4-D CT in the panel: Denoise, Compare, strength, table, Save and Export of all frames, identity, what goes wrong."""

import json

import numpy as np
import pydicom
import pytest
from host.dicom import export_tags
from IPv2Lib.errors import InputError, IPv2Error
from IPv2Lib.io import files
from IPv2SlicerLib.scene import volume_nodes
from IPv2SlicerLib.scene.result_nodes import kind_of, newest_result
from IPv2SlicerLib.scene.sequences import browser_of, data_nodes, frames, sequence_of, shown
from panel import MODULE, expand, finish_job, node_names, view_names
from patients import SERIES, chest_at, headers, write_4d, write_patient

COUNT = 3


@pytest.fixture
def four(make_host, tmp_path):
    """A host with the module and a function that loads a 4-D CT of a patient and chooses it."""
    host = make_host()
    widget = host.load_module(MODULE)

    def load(who: str = "ANNA", count: int = COUNT):
        sequence = host.import_4d(write_4d(tmp_path / "archive", who, count))
        widget._parameterNode.inputVolume = sequence
        host.process_events(0.2)
        return sequence

    return host, widget, load


def denoise(host, widget) -> None:
    host.click(widget.ui.denoiseButton)
    finish_job(host, widget)
    host.process_events(0.1)


def strength_of(node) -> str:
    return volume_nodes.provenance(node)["strength"]


def check(nodes, who: str, count: int = COUNT) -> None:
    """Every frame of a result is that of its frame, and lies in the study of its patient."""
    assert len(frames(nodes.denoised)) == len(frames(nodes.difference)) == len(data_nodes(nodes.table)) == count
    for number in range(count):
        before = chest_at(who, number)
        after, removed = (
            volume_nodes.node_to_volume(frames(node)[number]).array for node in (nodes.denoised, nodes.difference)
        )
        np.testing.assert_array_equal(volume_nodes.node_to_volume(frames(nodes.input)[number]).array, before)
        np.testing.assert_array_equal(after + removed, before)
    for node in (nodes.denoised, nodes.difference):
        tags = export_tags(shown(node))
        assert (tags["PatientName"], tags["StudyDescription"]) == (f"{who}^TEST", f"Study of {who}")


def select(host, nodes, number: int) -> None:
    browser_of(nodes.input).SetSelectedItemNumber(number)
    host.process_events(0.1)


def test_a_4d_ct_is_denoised_compared_and_browsed(four):
    host, widget, load = four
    sequence = load()
    ui = widget.ui
    assert "3 frames" in ui.concernsLabel.text() and "MB of memory" in ui.concernsLabel.text()
    denoise(host, widget)
    assert host.messages == []
    nodes = newest_result(sequence)
    check(nodes, "ANNA")
    assert nodes.denoised.GetName() == f"{SERIES} denoised"
    assert view_names() == ["IPv2View1", "IPv2View2", "IPv2View3"]
    tables, volumes = [], []
    for number in (2, 1):
        select(host, nodes, number)
        tables.append(ui.regionTable.text())
        composites = {each.GetLayoutName(): each for each in volume_nodes.nodes_of_class(
            sequence.GetScene(), "vtkMRMLSliceCompositeNode")}  # fmt: skip
        volumes = [sequence.GetScene().GetNodeByID(composites[name].GetBackgroundVolumeID()) for name in view_names()]
        assert volumes == [shown(node) for node in (nodes.input, nodes.denoised, nodes.difference)]
        np.testing.assert_array_equal(volume_nodes.node_to_volume(volumes[0]).array, chest_at("ANNA", number))
        assert all(node.GetName().endswith(f" [{number}]") for node in volumes)
    assert ui.regionTable.isVisible() and tables[0] != tables[1]
    assert all(button.isEnabled() for button in (ui.showButton, ui.saveButton, ui.exportDicomButton))


def test_the_slider_blends_all_frames_without_the_network(four):
    host, widget, load = four
    load()
    denoise(host, widget)
    nodes = newest_result(widget._parameterNode.inputVolume)
    full = [volume_nodes.node_to_volume(node).array for node in frames(nodes.denoised)]
    select(host, nodes, 1)
    for percent in (60, 0, 30):  # dragged
        widget.ui.strengthSlider.setValue(percent)
        host.process_events(0.05)
    host.wait_until(lambda: {strength_of(node) for node in frames(nodes.denoised)} == {"0.3"}, 60)
    for number, node in enumerate(frames(nodes.denoised)):
        before = chest_at("ANNA", number).astype(float)
        expected = before + 0.3 * (full[number] - before)
        np.testing.assert_allclose(volume_nodes.node_to_volume(node).array, expected, atol=0.51)
    check(nodes, "ANNA")
    np.testing.assert_array_equal(
        volume_nodes.node_to_volume(shown(nodes.denoised)).array,
        volume_nodes.node_to_volume(frames(nodes.denoised)[1]).array,
    )
    assert widget.logic.runner.task.title.startswith("Denoise") and host.messages == []


def test_save_writes_a_file_for_each_frame_with_the_strength_that_was_chosen_last(four, tmp_path):
    host, widget, load = four
    load()
    denoise(host, widget)
    nodes = newest_result(widget._parameterNode.inputVolume)
    out = tmp_path / "out"
    out.mkdir()
    widget.ui.strengthSlider.setValue(40)
    host.process_events(0.04)
    for name in ("Thorax 1.0.nii.gz", "Thorax 1.0.nii.gz"):
        host.answers.append(out / name)
        host.click(widget.ui.saveButton)
        finish_job(host, widget)
    assert sorted(path.name for path in out.iterdir()) == ["Thorax 1.0", "Thorax 1.0 2"]
    images = sorted(path for path in (out / "Thorax 1.0").iterdir() if path.suffix == ".gz")
    assert [path.name for path in images] == [f"4_ Thorax 1.0 B31f denoised {n:02d}.nii.gz" for n in (1, 2, 3)]
    hashes = set()
    for number, path in enumerate(images):
        np.testing.assert_array_equal(
            files.read(path).array, volume_nodes.node_to_volume(frames(nodes.denoised)[number]).array
        )
        facts = json.loads((path.parent / f"{path.name}.json").read_text())
        assert facts["strength"] == 0.4 and facts["sequence"]["frame"] == number + 1
        hashes.add(facts["input_sha256"])
    assert len(hashes) == 3
    assert "Written" in widget.ui.denoiseStatusLabel.text()


def test_export_writes_each_frame_as_a_series_of_its_own_of_the_right_source(four, tmp_path):
    host, widget, load = four
    for who in ("ANNA", "BERTA-MARIA"):
        load(who)
        denoise(host, widget)
    for who in ("ANNA", "BERTA-MARIA"):
        widget._parameterNode.inputVolume = next(
            node
            for node in volume_nodes.nodes_of_class(
                widget._parameterNode.inputVolume.GetScene(), "vtkMRMLSequenceNode"
            )
            if not kind_of(node) and not node.GetHideFromEditors()
            and export_tags(shown(node))["PatientName"] == f"{who}^TEST"
        )  # fmt: skip
        host.process_events(0.1)
        nodes = newest_result(widget._parameterNode.inputVolume)
        check(nodes, who)
        out = tmp_path / who
        out.mkdir()
        host.answers.append(out)
        host.click(widget.ui.exportDicomButton)
        finish_job(host, widget)
        (folder,) = out.iterdir()
        series = sorted(path for path in folder.iterdir() if path.is_dir())
        assert len(series) == COUNT
        uids = set()
        for number, place in enumerate(series):
            result = volume_nodes.node_to_volume(frames(nodes.denoised)[number])
            assert np.abs(files.read(place).array - result.array).max() <= 0.5
            written = headers(place)
            uids |= {each.SeriesInstanceUID for each in written}
            assert {str(each.PatientName) for each in written} == {f"{who}^TEST"}
            assert f"frame {number + 1}/3" in written[0].SeriesDescription
            sources = [each.SourceImageSequence[0].ReferencedSOPInstanceUID for each in written]
            assert sources == [f"{written[0].StudyInstanceUID}.4.{100 * number + index + 1}" for index in range(4)]
        assert len(uids) == COUNT
    assert [message.kind for message in host.messages] == ["file"] * 2


@pytest.mark.parametrize("agreed", [True, False])
def test_frames_without_source_files_are_asked_about_and_become_one_study(four, tmp_path, agreed):
    host, widget, load = four
    load()
    denoise(host, widget)
    next((tmp_path / "archive").rglob("IM0102.dcm")).unlink()  # of the second frame
    with pytest.raises(InputError, match="frame 2"):
        widget.logic.exportDicom(newest_result(widget._parameterNode.inputVolume).denoised, tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    host.answers.extend([agreed, *([out] if agreed else [])])
    host.click(widget.ui.exportDicomButton)
    finish_job(host, widget)
    assert "frame 2" in host.messages[0].text
    if not agreed:
        assert not any(out.iterdir()) and "Not exported" in widget.ui.denoiseStatusLabel.text()
        return
    written = [pydicom.dcmread(path) for path in out.rglob("*.dcm")]
    assert len(written) == 4 * COUNT and len({each.SeriesInstanceUID for each in written}) == COUNT
    for keyword in ("StudyInstanceUID", "PatientID", "FrameOfReferenceUID", "StudyTime"):
        assert len({each[keyword].value for each in written}) == 1
    assert {str(each.PatientName) for each in written} == {"Unknown^"}


def test_only_the_sequence_is_offered_and_chosen_for_what_shows_it(four, make_host):
    host, widget, load = four
    sequence = load()
    denoise(host, widget)
    nodes = newest_result(sequence)
    selector = widget.ui.inputSelector
    assert [selector.nodeFromIndex(index) for index in range(selector.nodeCount())] == [sequence]
    expand(host, widget.ui.advancedCollapsibleButton)
    assert widget.ui.furtherVolumesList.count() == 0
    host.choose_from_context_menu(shown(nodes.input), "Denoise with IPv2…")
    assert widget._parameterNode.inputVolume is sequence
    widget._parameterNode.inputVolume = None
    widget.initializeParameterNode()
    assert widget._parameterNode.inputVolume is sequence  # its frame is shown
    widget._parameterNode.inputVolume = shown(nodes.input)  # a script may
    host.process_events(0.3)
    assert f"frame on display of '{SERIES}'" in widget.ui.concernsLabel.text()
    with pytest.raises(InputError, match="shows the frames of"):
        widget.logic.denoise(frames_as_volume(nodes), shown(nodes.denoised))


def frames_as_volume(nodes):
    return volume_nodes.volume_to_node(volume_nodes.node_to_volume(frames(nodes.input)[0]), "one")


def node_classes(target) -> list[str]:
    return sorted(node.GetClassName() for node in volume_nodes.nodes_of_class(target, "vtkMRMLNode"))


def test_a_second_run_replaces_the_first_and_a_script_gets_another(four):
    host, widget, load = four
    sequence = load()
    denoise(host, widget)
    classes = node_classes(sequence.GetScene())
    names = node_names(sequence.GetScene())
    first = newest_result(sequence)
    denoise(host, widget)
    assert sorted(node_names(sequence.GetScene())) == sorted(names)
    assert node_classes(sequence.GetScene()) == classes  # no display, legend or storage of the first is left
    assert first.denoised.GetScene() is None
    check(newest_result(sequence), "ANNA")
    other = widget.logic.denoise(sequence, strength=0.5).wait()
    name = other.denoised.GetName()
    assert name.startswith(f"{SERIES} denoised_")
    replaced = widget.logic.denoise(sequence, other.denoised).wait()
    assert other.denoised.GetScene() is None and replaced.denoised.GetName() == name
    with pytest.raises(InputError, match="cannot be written"):
        widget.logic.denoise(
            sequence, volume_nodes.volume_to_node(volume_nodes.node_to_volume(frames(sequence)[0]), "Mine")
        )


def test_a_result_is_found_when_its_scene_is_opened_again(four, tmp_path):
    import slicer

    host, widget, load = four
    load()
    denoise(host, widget)
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    host.process_events(0.1)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    host.process_events(0.3)
    ui = widget.ui
    sequence = widget._parameterNode.inputVolume
    assert sequence.GetName() == SERIES and ui.regionTable.isVisible() and ui.showButton.isEnabled()
    check(newest_result(sequence), "ANNA")
    host.click(ui.showButton)
    assert len(view_names()) == 3
    ui.strengthSlider.setValue(20)
    host.process_events(0.2)
    assert "denoise again to change its strength" in ui.denoiseStatusLabel.text()
    out = tmp_path / "out"
    out.mkdir()
    host.answers.append(out)
    host.click(ui.exportDicomButton)
    finish_job(host, widget)
    assert {str(pydicom.dcmread(path).PatientName) for path in out.rglob("*.dcm")} == {"ANNA^TEST"}
    denoise(host, widget)
    check(newest_result(sequence), "ANNA")
    assert [message for message in host.messages if message.kind != "file"] == []


def change(sequence) -> None:
    node = frames(sequence)[1]
    volume_nodes.node_array(node)[:] += 5
    node.GetImageData().GetPointData().GetScalars().Modified()


@pytest.mark.parametrize(
    ("meanwhile", "says"),
    [
        (change, "was changed while"),
        (lambda sequence: sequence.RemoveDataNodeAtValue("1"), "was changed while"),
        (lambda sequence: sequence.GetScene().RemoveNode(sequence), "was removed from the scene"),
    ],
    ids=["voxels", "frame", "sequence"],
)
def test_what_happens_to_the_input_meanwhile(four, meanwhile, says):
    host, widget, load = four
    sequence = load()
    target, found = sequence.GetScene(), []
    widget.logic.denoise(sequence).onFinished(found.append)
    meanwhile(sequence)
    before = node_names(target)
    finish_job(host, widget)
    assert found == [None] and says in widget.logic.runner.message
    assert node_names(target) == before


def test_browsing_meanwhile_costs_nothing_for_the_sequence_and_is_noticed_for_what_shows_it(four):
    host, widget, load = four
    sequence = load()
    widget.logic.denoise(sequence)
    browser_of(sequence).SetSelectedItemNumber(2)
    finish_job(host, widget)
    check(newest_result(sequence), "ANNA")
    widget.logic.denoise(shown(sequence))
    browser_of(sequence).SetSelectedItemNumber(1)
    finish_job(host, widget)
    assert "was changed while" in widget.logic.runner.error


def test_a_volume_that_is_changed_during_its_run_gets_no_result(make_host, tmp_path):
    host = make_host()
    widget = host.load_module(MODULE)
    (node,) = host.import_dicom(write_patient(tmp_path, "ANNA"))
    widget.logic.denoise(node)
    volume_nodes.node_array(node)[0] = 0
    node.GetImageData().GetPointData().GetScalars().Modified()
    finish_job(host, widget)
    assert "was changed while" in widget.logic.runner.error and newest_result(node) is None


def test_cancel_and_closing_the_scene(four):
    import slicer

    host, widget, load = four
    sequence = load()
    before = node_names(slicer.mrmlScene)
    host.click(widget.ui.denoiseButton)
    assert widget.logic.runner.state.active
    widget.logic.cancel()
    finish_job(host, widget)
    assert widget.logic.runner.state.value == "cancelled" and node_names(slicer.mrmlScene) == before
    denoise(host, widget)
    widget.ui.strengthSlider.setValue(10)
    host.process_events(0.05)
    assert newest_result(sequence) is not None
    slicer.mrmlScene.Clear()
    host.process_events(0.2)
    assert host.messages == [] and not widget.ui.saveButton.isEnabled()


def test_which_frame_is_no_ct(four):
    host, widget, load = four
    sequence = load()
    volume_nodes.node_array(frames(sequence)[1])[:] = 30000
    sequence.Modified()
    host.process_events(0.4)
    assert not widget.ui.denoiseButton.isEnabled()
    assert "frame 2" in widget.ui.denoiseStatusLabel.text()
    with pytest.raises(IPv2Error, match="frame 2"):
        widget.logic.denoise(sequence)


def test_one_frame(four, tmp_path):
    host, widget, load = four
    sequence = load(count=1)
    denoise(host, widget)
    check(newest_result(sequence), "ANNA", 1)
    folder = widget.logic.save(newest_result(sequence).denoised, tmp_path / "one.nrrd").wait()
    assert sorted(path.name for path in folder.iterdir() if path.suffix == ".nrrd") == [
        "4_ Thorax 1.0 B31f denoised 01.nrrd"
    ]
    assert sequence_of(shown(sequence)) is sequence
