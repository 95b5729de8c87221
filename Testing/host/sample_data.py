"""Module `SampleData`: data sets that modules register, loaded from local files or by their own function.

As in Slicer, a data set's own function is called by its button and by nothing else: a script gets what the addresses
lead to, a path where no node is named.
"""

from __future__ import annotations

import shutil
import urllib.parse
import urllib.request
import uuid
from pathlib import Path
from types import ModuleType

import slicer
import vtk

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

    def __eq__(self, other):
        return str(self) == str(other)

    def __str__(self):
        return str(vars(self))


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
        if source not in sources:
            sources.append(source)

    @staticmethod
    def registerUrlRewriteRule(name, rewriteFunction):
        """Add a function that every address goes through before it is downloaded; the last of a name counts.

        Raises
        ------
        TypeError
            It is no function.
        """
        if not callable(rewriteFunction):
            raise TypeError(f"Expected 'rewriteFunction' to be callable, got {type(rewriteFunction)}")
        _rules()[name] = rewriteFunction

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
        """Get the files of a data set into the cache and load them; paths of those that belong to no node.

        Its own function is not called: that is what its button does.

        Raises
        ------
        HostError
            An address that leads off this computer.
        """
        nodes, paths = [], []
        named = any(name is not None for name in source.nodeNames)
        for uri, file_name, name, kind in zip(
            source.uris, source.fileNames, source.nodeNames, source.loadFileTypes, strict=True
        ):
            stem = Path(urllib.parse.urlparse(uri).path if file_name is None else file_name)
            if name is None and not named:
                name = stem.stem
            if file_name is None:
                file_name = f"{name or stem.stem}-{uuid.uuid4().hex}{stem.suffix}"
            path = self.downloadFileIntoCache(uri, file_name, forceDownload=forceDownload)
            if not name:
                paths.append(path)
            elif node := _loaded(path, name, kind, source.loadFileProperties):
                nodes.append(node)
        return nodes or paths

    def downloadFileIntoCache(self, uri, name, checksum=None, forceDownload=False):
        """Path of a file in the cache, downloaded unless it is there.

        Raises
        ------
        HostError
            An address that leads off this computer.
        """
        folder = slicer.mrmlScene.GetCacheManager().GetRemoteCacheDirectory()
        Path(folder).mkdir(parents=True, exist_ok=True)
        for rule in _rules().values():
            uri = rule(uri)
        path = Path(f"{folder}/{name}")
        if forceDownload or not path.exists() or path.stat().st_size == 0:
            if urllib.parse.urlparse(uri).scheme != "file":
                raise HostError(f"'{name}' is at {uri}: the stand-in downloads nothing")
            shutil.copyfile(urllib.request.url2pathname(urllib.parse.urlparse(uri).path), path)
        return str(path)


def _loaded(path: str, name: str, kind: str | None, properties: dict):
    """The first node of a file, without the storage that leads to the cache; None if it cannot be read."""
    io, nodes = slicer.app.coreIOManager(), vtk.vtkCollection()
    io.loadNodes(kind or io.fileType(path), {**properties, "fileName": path, "name": name}, nodes)
    node = nodes.GetItemAsObject(0)
    storage = node and node.GetStorageNode()
    if storage:
        slicer.mrmlScene.RemoveNode(storage)
        node.SetAndObserveStorageNodeID(None)
    return node


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


def _rules() -> dict[str, object]:
    if "sampleDataUrlRewriteRules" not in vars(slicer.modules):
        slicer.modules.sampleDataUrlRewriteRules = {}
    return slicer.modules.sampleDataUrlRewriteRules


def make_module() -> ModuleType:
    """Module `SampleData`."""
    module = ModuleType("SampleData", "Sample data sets.")
    module.SampleDataLogic, module.SampleDataSource = SampleDataLogic, SampleDataSource
    module.downloadSample = lambda name: SampleDataLogic().downloadSample(name)
    module.downloadSamples = lambda name: SampleDataLogic().downloadSamples(name)
    return module
