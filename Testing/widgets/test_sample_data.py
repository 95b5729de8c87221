"""The synthetic pair in Sample Data: by its button, by name and by category, with and without the module's panel."""

import pytest
from IPv2Lib.errors import IPv2Error
from panel import MODULE, node_names

NAMES = ["Phantom uLDCT", "Phantom NDCT"]


@pytest.fixture
def loaded(host, monkeypatch):
    """IPv2 Denoise is there, and its panel was never opened."""
    host.load_module(MODULE, select=False)
    from IPv2DenoiseLib import Registration

    monkeypatch.setattr(Registration, "SAMPLE_SIZE", 64)
    monkeypatch.setattr(Registration, "SAMPLE_SLICES", 2)
    return host


@pytest.fixture
def jobs_started(loaded, monkeypatch) -> list[str]:
    """Kinds of jobs that were started."""
    from IPv2SlicerLib.jobs.Jobs import Jobs

    started, run = [], Jobs.run
    monkeypatch.setattr(Jobs, "run", lambda self, kind, *rest: started.append(kind) or run(self, kind, *rest))
    return started


def by_name():
    import SampleData

    return SampleData.downloadSamples("IPv2ChestPair")


def by_logic():
    import SampleData

    return SampleData.SampleDataLogic().downloadSamples("IPv2ChestPair")


def by_category():
    import SampleData

    (source,) = SampleData.SampleDataLogic.sampleDataSourcesByCategory("IPv2")
    return SampleData.SampleDataLogic().downloadFromSource(source)


@pytest.mark.parametrize("load", [by_name, by_logic, by_category])
def test_a_script_gets_both_scans(loaded, load):
    import slicer

    nodes = load()
    assert [node.GetName() for node in nodes] == NAMES
    uldct, ndct = map(slicer.util.arrayFromVolume, nodes)
    assert uldct.shape == ndct.shape == (2, 64, 64)
    assert uldct.std() > ndct.std() > 100  # HU of a chest, with more noise at the lower dose
    assert node_names(slicer.mrmlScene) == NAMES and loaded.messages == []
    assert [node.GetStorageNode() for node in nodes] == [None, None]


def test_the_first_scan_by_name_is_the_uldct(loaded):
    import SampleData

    assert SampleData.downloadSample("IPv2ChestPair").GetName() == NAMES[0]


def test_a_second_pair_is_the_same_and_is_not_made_again(loaded, jobs_started):
    import slicer

    first, second = by_name(), by_name()
    assert jobs_started == ["sample pair"]
    assert len({node.GetID() for node in [*first, *second]}) == 4
    for one, other in zip(first, second, strict=True):
        assert (slicer.util.arrayFromVolume(one) == slicer.util.arrayFromVolume(other)).all()
        assert one.GetName() != other.GetName() and other.GetName().startswith(one.GetName())


def test_the_button_shows_the_uldct(loaded):
    import slicer

    uldct, ndct = loaded.load_sample("IPv2ChestPair")
    assert [uldct.GetName(), ndct.GetName()] == NAMES
    shown = slicer.app.layoutManager().sliceWidget("Red").sliceLogic().GetSliceCompositeNode()
    assert shown.GetBackgroundVolumeID() == uldct.GetID()


def test_a_lost_scan_is_made_again(loaded, jobs_started):
    from pathlib import Path

    import slicer

    by_name()
    lost = next(Path(slicer.app.cachePath).glob("IPv2ChestPair-*-NDCT.nrrd"))
    lost.unlink()
    assert len(by_name()) == 2 and jobs_started == ["sample pair"] * 2


def test_what_goes_wrong_is_raised_for_a_script_and_shown_for_the_button(loaded, monkeypatch):
    import slicer
    from IPv2DenoiseLib import Registration

    monkeypatch.setattr(Registration, "SAMPLE_SIZE", 1)
    with pytest.raises(IPv2Error) as caught:
        by_name()
    assert "\n" not in str(caught.value)
    assert loaded.load_sample("IPv2ChestPair") == []
    assert [message.kind for message in loaded.messages] == ["error"]
    assert node_names(slicer.mrmlScene) == []


def test_other_addresses_are_left_alone_and_the_data_set_is_registered_once(loaded):
    import SampleData
    import slicer

    slicer.app.startupCompleted.emit()
    assert len(SampleData.SampleDataLogic.sampleDataSourcesByCategory("IPv2")) == 1
    (rule,) = slicer.modules.sampleDataUrlRewriteRules.values()
    address = "https://www.slicer.org/data/CT.nrrd"
    assert rule(address) == address


def test_a_data_set_with_nothing_but_a_function_gives_a_script_no_node(host):
    import SampleData
    import slicer

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="Tests", sampleName="Made", uris="", fileNames="", nodeNames="", customDownloader=lambda source: [1]
    )
    assert host.load_sample("Made") == [1]
    assert SampleData.downloadSample("Made").rstrip("/") == slicer.app.cachePath
