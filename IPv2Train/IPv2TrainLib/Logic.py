"""The module's work without its panel: starts jobs, pauses and stops runs, and puts results into the scene.

Importing this file must stay cheap, Slicer does it when it starts: what needs numpy comes in with the first job.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import slicer
from IPv2Lib.errors import InputError, IPv2Error
from IPv2Lib.models import bundle
from IPv2SlicerLib.jobs.Job import Job
from IPv2SlicerLib.jobs.Jobs import Jobs
from IPv2SlicerLib.jobs.Packages import ensureTrainingPackages
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from .Parameters import IPv2TrainParameterNode

TITLE = "IPv2 Train"
"""The module's name."""

PAUSE_SECONDS = 0.8
"""How long a running training may take to write its checkpoint when Slicer quits; then the last one before counts."""


class IPv2TrainLogic(Jobs, ScriptedLoadableModuleLogic):
    """Makes data sets, trains, compares and publishes in other processes, with or without the panel.

    Two jobs may run at the same time: a training, which is `training`'s, and one of the others. A data set, a run and a
    comparison are folders: neither the scene nor Slicer has to stay open for them. A method that starts a job returns
    it, see `IPv2SlicerLib.jobs.Job`. Kinds of jobs are "prepare", "compare", "ablation", "physics" and "publish".

    Attributes
    ----------
    training : Jobs
        The training that was started here; its kind is "train".
    trainedRun : Path or None
        The run that it trains, or trained last.

    Examples
    --------
    >>> from IPv2Train import IPv2TrainLogic
    >>> from IPv2Lib.datasets.cases import cases_from_paths
    >>> from IPv2Lib.training.settings import TrainingSettings
    >>> logic = IPv2TrainLogic()
    >>> logic.prepare(cases_from_paths(["scans"]), "dataset").wait()  # or with PreparationSettings(workers=4, ...)
    >>> logic.train("dataset", "dataset/runs/first", TrainingSettings(strategy="ipv2", minutes=60)).wait().best_rmse_hu
    >>> logic.compare("dataset", ["input", "dataset/runs/first", "ipv2-fast"], "dataset/comparisons/first").wait().table
    >>> logic.physics(["dataset/runs/first", "tv"], "dataset/physics").wait().sentences
    >>> logic.publish("dataset/runs/first", "my-model").wait()
    """

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        Jobs.__init__(self, TITLE, ensureTrainingPackages)
        self.training = _Training(self.pause)
        self.trainedRun: Path | None = None

    def getParameterNode(self) -> IPv2TrainParameterNode:
        """The parameter node of the scene, made if there is none."""
        return IPv2TrainParameterNode(super().getParameterNode())

    # --- data ---

    def prepare(self, cases: Sequence[Any], dataset: str | Path, settings=None) -> Job:
        """Make a purified data set of some cases, or complete one; what is there already is not made again.

        Parameters
        ----------
        cases : sequence of IPv2Lib.datasets.cases.Case
            All that the data set consists of.
        dataset : path
            Its folder.
        settings : IPv2Lib.datasets.settings.PreparationSettings, optional

        Returns
        -------
        Job
            Its result is a list with a dict of each case: name, patient, split, status ("purified", "cached" or
            "failed"), message, thumbnail, slices.

        Raises
        ------
        IPv2Lib.errors.InputError
            The cases cannot be used (`IPv2Lib.datasets.cases.check_cases`), or none of them could be purified.
        """
        from IPv2Lib.datasets.cases import check_cases
        from IPv2Lib.datasets.settings import PreparationSettings

        from .Tasks import prepareTask

        self.runner.refuse_if_active()
        check_cases(cases)
        dataset = _folder(dataset, _("a folder for the data set"))
        task = prepareTask(
            _("Purify {name}").format(name=dataset.name),
            cases,
            dataset,
            _writable(settings or PreparationSettings()),
        )
        return self.run("prepare", task)

    # --- training ---

    def train(self, dataset: str | Path, run: str | Path, settings=None) -> Job:
        """Begin a run, and train until it is done, paused or stopped.

        Parameters
        ----------
        dataset : path
            A purified data set.
        run : path
            A new folder.
        settings : IPv2Lib.training.settings.TrainingSettings, optional

        Returns
        -------
        Job
            Its result is the `IPv2Lib.training.run_folder.RunState`.
        """
        from IPv2Lib.datasets.shards import PurifiedDataset
        from IPv2Lib.training.run_folder import is_run
        from IPv2Lib.training.settings import TrainingSettings

        self.training.runner.refuse_if_active()
        settings = _writable(_withAbsolutePaths(settings or TrainingSettings()))
        dataset = _folder(dataset, _("the folder of a data set"))
        run = _folder(run, _("a folder for the run"))
        if is_run(run):
            raise InputError(f"{run} is a run already: resume it, or give the new one another name")
        for shard in PurifiedDataset.read(dataset).split("train"):
            if settings.pairs == "purified" and (reason := shard.lacks(settings.strategy)):
                raise InputError(reason)
        return self._train(dataset, run, settings)

    def resume(self, run: str | Path) -> Job:
        """Go on with a run that was paused, stopped or ended without a word; see `train`."""
        from IPv2Lib.training.run_folder import read_run

        self.training.runner.refuse_if_active()
        run = _folder(run, _("the folder of a run"))
        state = read_run(run)
        if not state.can_resume:
            raise InputError(f"{run.name} is {state.state}: there is nothing to resume")
        return self._train(None, run, None)

    def pause(self, run: str | Path | None = None) -> None:
        """Ask a run, by default the one that was started here, to write a checkpoint and end; it can be resumed."""
        self._ask(run, "pause")

    def stop(self, run: str | Path | None = None) -> None:
        """Ask a run, by default the one that was started here, to end for good; its best weights stay."""
        self._ask(run, "stop")

    def _train(self, dataset, run, settings) -> Job:
        from .Tasks import trainTask

        task = trainTask(_("Train {name}").format(name=run.name), dataset, run, settings)
        self.trainedRun = run
        return self.training.run("train", task)

    def _ask(self, run, word: str) -> None:
        from IPv2Lib.training.run_folder import is_run, is_trained_now, request

        run = Path(run or self.trainedRun or "")
        if is_trained_now(run):
            request(run, word)
        elif self.training.runner.state.active and run == self.trainedRun:
            self.training.cancel()  # nothing is trained yet
        elif is_run(run):
            raise InputError(f"nobody trains {run.name} at the moment: it can be resumed")
        else:
            raise InputError(f"{run} is no training run: choose one")

    # --- evaluation ---

    def compare(self, dataset: str | Path, methods: Sequence[str], folder: str | Path, settings=None) -> Job:
        """Score models, runs and the input on a part of a data set, and put table and plots into the scene.

        Parameters
        ----------
        dataset : path
        methods : sequence of str
            "input", names or folders of models, folders of runs, names of zero-shot networks.
        folder : path
            Gets CSV files and a plot.
        settings : IPv2Lib.evaluation.settings.ComparisonSettings, optional

        Returns
        -------
        Job
            Its result are `IPv2SlicerLib.scene.training_nodes.ComparisonNodes`.
        """
        from IPv2Lib.datasets.shards import PurifiedDataset
        from IPv2Lib.evaluation.settings import ComparisonSettings

        from .Tasks import compareTask

        self.runner.refuse_if_active()
        settings = settings or ComparisonSettings()
        if settings.features:
            settings = replace(settings, features=_path(settings.features))
        dataset = _folder(dataset, _("the folder of a data set"))
        if not PurifiedDataset.read(dataset).split(settings.split):
            raise InputError(f"{dataset.name} has no case for {settings.split}: change the split, or choose another")
        if not methods:
            raise InputError(_("nothing is ticked: choose what to compare"))
        folder = _folder(folder, _("a folder for the comparison"))
        task = compareTask(
            _("Compare {count} methods").format(count=len(methods)),
            dataset,
            [_absolute(method) for method in methods],
            folder,
            _writable(settings),
            addComparison,
        )
        return self.run("compare", task)

    def ablation(self, dataset: str | Path, folder: str | Path, settings=None) -> Job:
        """Train the rows of the paper's ablation, or other ones, with the same budget, and compare them.

        Parameters
        ----------
        dataset : path
        folder : path
            Gets the runs and the tables; of an earlier ablation it goes on with what is not done.
        settings : IPv2Lib.evaluation.settings.AblationSettings, optional

        Returns
        -------
        Job
            Its result are `IPv2SlicerLib.scene.training_nodes.ComparisonNodes`.
        """
        from IPv2Lib.datasets.shards import PurifiedDataset
        from IPv2Lib.evaluation.settings import AblationSettings

        from .Tasks import ablationTask

        self.runner.refuse_if_active()
        dataset = _folder(dataset, _("the folder of a data set"))
        PurifiedDataset.read(dataset)
        task = ablationTask(
            _("Ablation on {name}").format(name=dataset.name),
            dataset,
            _folder(folder, _("a folder for the ablation")),
            _writable(settings or AblationSettings()),
            addComparison,
        )
        return self.run("ablation", task)

    def physics(self, methods: Sequence[str], folder: str | Path, settings=None) -> Job:
        """Measure noise, texture, sharpness, HU and detectability on phantoms, and put table and plots into the scene.

        Parameters
        ----------
        methods : sequence of str
            As of `compare`, but for "input", which is measured in any case.
        folder : path
            Gets a report, CSV and JSON; of an earlier one it goes on with what is not measured yet.
        settings : IPv2Lib.evaluation.physics.settings.PhysicsSettings, optional

        Returns
        -------
        Job
            Its result are `IPv2SlicerLib.scene.training_nodes.ComparisonNodes`.
        """
        from IPv2Lib.evaluation.physics.settings import PhysicsSettings
        from IPv2Lib.inference.denoisers import INPUT

        from .Tasks import physicsTask

        self.runner.refuse_if_active()
        settings = settings or PhysicsSettings()
        settings = replace(
            settings, scans=tuple(map(_path, settings.scans)), series=settings.series and _path(settings.series)
        )
        methods = [_absolute(method) for method in methods if method != INPUT]
        if not methods and not settings.command:
            raise InputError(_("there is nothing to measure: choose a model, a run or a filter"))
        task = physicsTask(
            _("Measure image physics"),
            methods,
            _folder(folder, _("a folder for the report")),
            _writable(settings),
            addComparison,
        )
        return self.run("physics", task)

    # --- publishing ---

    def publish(
        self,
        run: str | Path,
        name: str,
        *,
        title: str = "",
        description: str = "",
        limits: str = "",
        folder: str | Path | None = None,
        overwrite: bool = False,
    ) -> Job:
        """Pack the best weights of a run as a model.

        Parameters
        ----------
        run : path
        name : str
            Of the model: letters, digits, ``-``, ``_`` and ``.``.
        title, description, limits : str
            What only people know, for its card; empty: said in general words.
        folder : path, optional
            Where models are; default: the user's own folder, in which IPv2 Denoise looks.
        overwrite : bool
            Replace a model of this name.

        Returns
        -------
        Job
            Its result is a dict: folder ("model"), name and SHA-256 of the model.
        """
        from IPv2Lib.training.run_folder import read_run

        from .Tasks import publishTask

        self.runner.refuse_if_active()
        run = _folder(run, _("the folder of a run"))
        if not read_run(run).has_weights:
            raise InputError(f"{run.name} has no weights yet: train it for longer")
        model = modelFolder(name, folder)
        if model.exists() and not overwrite:
            raise InputError(f"there is a model {name} already: choose another name, or let it be replaced")
        card = {"title": title, "description": description, "limits": limits}
        task = publishTask(
            _("Publish {name}").format(name=name),
            run,
            model,
            {key: text.strip() for key, text in card.items() if text.strip()},
            overwrite=overwrite,
        )
        return self.run("publish", task)

    # --- the end ---

    def close(self) -> None:
        """Let a training pause, end what else is running, and tell nobody any more: for module reload and quitting."""
        self.training.askToEnd()
        Jobs.close(self)
        self.training.close()


class _Training(Jobs):
    """Jobs that write a checkpoint before they end."""

    def __init__(self, pause: Callable[[], None]) -> None:
        Jobs.__init__(self, TITLE, ensureTrainingPackages)
        self._pause = pause

    def askToEnd(self) -> None:
        """Ask for the checkpoint; whatever is wrong with that, `close` ends the job."""
        if self.runner.state.active:
            with contextlib.suppress(IPv2Error, OSError):
                self._pause()

    def close(self) -> None:
        """Give a running training the time for its checkpoint, end it, and tell nobody any more."""
        self.tellNobody()
        self.askToEnd()
        self.runner.wait(PAUSE_SECONDS)
        Jobs.close(self)


def modelFolder(name: str, folder: str | Path | None = None) -> Path:
    """Where a model of this name goes.

    Raises
    ------
    BundleError
        For a name that is none.
    """
    bundle.check_name(name)
    return Path(folder or bundle.user_folder()) / name


def addComparison(folder: Path):
    """Put the tables of a comparison, an ablation or image physics into the scene; `training_nodes.ComparisonNodes`."""
    from IPv2SlicerLib.scene import training_nodes

    return training_nodes.add_comparison(slicer.mrmlScene, folder, folder.name)


def _folder(path: str | Path, wanted: str) -> Path:
    if not str(path).strip():
        raise InputError(_("{wanted} is missing: choose one").format(wanted=wanted))
    return Path(_path(path))


def _path(path: str | Path) -> str:
    """A path that a process in another folder understands."""
    return str(Path(path).expanduser().absolute())


def _withAbsolutePaths(settings):
    """Settings of a training for a process that works in another folder."""
    changes = {}
    if settings.start_from is not None:
        changes["start_from"] = _absolute(str(settings.start_from))
    if settings.keep_blocks is not None:
        changes["keep_blocks"] = _path(settings.keep_blocks)
    return replace(settings, **changes)


def _absolute(method: str) -> str:
    """A name of a model or a network as it is; the folder of a run or a model in full, as `find_denoisers` takes it."""
    from IPv2Lib.inference.denoisers import INPUT, is_taken
    from IPv2Lib.networks import registry
    from IPv2Lib.training.run_folder import is_run

    name, path = str(method), Path(method).expanduser()
    if name == INPUT or not path.is_dir():
        return name
    if not is_run(path) and (
        is_taken(name) or name in registry.names() or any(model.name == name for model in bundle.scan()[0])
    ):
        return name
    return _path(path)


def _writable(settings):
    """The settings; refused here and not by the job if a file cannot hold them."""
    from IPv2Lib.io import settings_file

    settings_file.as_dict(settings)
    return settings
