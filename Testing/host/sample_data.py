"""Module `SampleData`: data sets that modules register, loaded from local files or by their own function."""

from __future__ import annotations

import urllib.parse
from pathlib import Path
from types import ModuleType

import slicer
import slicer.util

from .errors import HostError

_LISTS = ("uris", "fileNames", "nodeNames", "checksums", "loadFiles", "loadFileTypes")


class SampleDataSource:
    """One data set: one or several files. Fields have one value, or lists of one length."""

    def __init__(
        self,
        sampleName=None,
        sampleDescription=None,
        uris=None,
        fileNames=None,
        nodeNames=None,
        checksums=None,
        loadFiles=None,
        customDownloader=None,
        thumbnailFileName=None,
        loadFileTypes=None,
        loadFileProperties=None,
        loadFileType=None,
    ):
        self.sampleName, self.sampleDescription = sampleName, sampleDescription or sampleName
        self.customDownloader, self.thumbnailFileName = customDownloader, thumbnailFileName
        self.loadFileProperties = loadFileProperties or {}
        given = (uris, fileNames, nodeNames, checksums, loadFiles, loadFileTypes or loadFileType)
        for name, value in zip(_LISTS, given, strict=True):
            if isinstance(uris, str):
                value = [value]
            elif value is None and name in ("nodeNames", "checksums", "loadFiles"):
                value = [None] * len(uris)
            elif name == "loadFileTypes" and (value is None or isinstance(value, str)):
                value = [value] * len(uris)
            setattr(self, name, value)
        if len({len(getattr(self, name)) for name in _LISTS}) != 1:
            raise ValueError("All fields of sample data source must have the same length")
        if thumbnailFileName and not Path(thumbnailFileName).is_file():
            raise HostError(f"sample data '{sampleName}' has no thumbnail {thumbnailFileName}")


class SampleDataLogic:
    """The registered data sets, `slicer.modules.sampleDataSources`."""

    @staticmethod
    def registerCustomSampleDataSource(
        category="Custom",
        sampleName=None,
        uris=None,
        fileNames=None,
        nodeNames=None,
        customDownloader=None,
        thumbnailFileName=None,
        loadFileTypes=None,
        loadFiles=None,
        loadFileProperties=None,
        checksums=None,
        loadFileType=None,
    ):
        """Add a data set; registering it again changes nothing."""
        source = SampleDataSource(
            sampleName=sampleName,
            uris=uris,
            fileNames=fileNames,
            nodeNames=nodeNames,
            customDownloader=customDownloader,
            thumbnailFileName=thumbnailFileName,
            loadFileTypes=loadFileTypes or loadFileType,
            loadFiles=loadFiles,
            loadFileProperties=loadFileProperties,
            checksums=checksums,
        )
        sources = _sources().setdefault(category, [])
        if all(each.sampleName != sampleName for each in sources):
            sources.append(source)

    @staticmethod
    def sampleDataSourcesByCategory(category=None):
        """Every data set by category, or those of one."""
        return _sources() if category is None else _sources().get(category, [])

    def sourceForSampleName(self, sampleName):
        """A data set by its name, or None."""
        return next(
            (each for sources in _sources().values() for each in sources if each.sampleName == sampleName), None
        )

    def downloadSample(self, sampleName):
        """The first node of a data set."""
        return self.downloadSamples(sampleName)[0]

    def downloadSamples(self, sampleName):
        """The nodes of a data set, loaded; nothing for an unknown name."""
        source = self.sourceForSampleName(sampleName)
        return self.downloadFromSource(source) if source else []

    def downloadFromSource(self, source, maximumAttemptsCount=3, forceDownload=False):
        """Load the files of a data set. Its own function is not called: that is what its button does.

        Raises
        ------
        HostError
            A file that is not on this computer.
        """
        nodes = []
        for uri, name in zip(source.uris, source.nodeNames, strict=True):
            parsed = urllib.parse.urlparse(uri)
            if parsed.scheme != "file":
                raise HostError(f"sample data '{source.sampleName}' is at {uri}: the stand-in downloads nothing")
            path = urllib.parse.unquote(parsed.path)
            nodes.append(slicer.util.loadVolume(path, {"name": name or Path(path).stem, **source.loadFileProperties}))
        return nodes


def click(sample_name: str):
    """What a click on the button of a data set in the module Sample Data does."""
    source = SampleDataLogic().sourceForSampleName(sample_name)
    if source is None:
        raise HostError(f"no sample data '{sample_name}' is registered: {[s.sampleName for s in _all()]}")
    return source.customDownloader(source) if source.customDownloader else SampleDataLogic().downloadFromSource(source)


def _all() -> list[SampleDataSource]:
    return [source for sources in _sources().values() for source in sources]


def _sources() -> dict[str, list[SampleDataSource]]:
    if "sampleDataSources" not in vars(slicer.modules):
        slicer.modules.sampleDataSources = {}
    return slicer.modules.sampleDataSources


def make_module() -> ModuleType:
    """Module `SampleData`."""
    module = ModuleType("SampleData", "Sample data sets.")
    module.SampleDataLogic, module.SampleDataSource = SampleDataLogic, SampleDataSource
    return module
