"""The module's self-test: everything it does once, on small synthetic chests, without a network connection."""

import tempfile
from pathlib import Path

import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

PATIENTS, SIZE, SLICES, STEPS = 2, 64, 2, 1000000
MODEL = "ipv2-self-test"


class IPv2TrainTest(ScriptedLoadableModuleTest):
    """Runs in *Reload and Test* and with ctest; about a minute on a CPU."""

    def setUp(self) -> None:
        """An empty scene and an empty folder."""
        from IPv2SlicerLib.jobs.Packages import ensureTrainingPackages, missingTrainingPackages

        from .Logic import TITLE, IPv2TrainLogic

        missing = missingTrainingPackages()
        if missing and slicer.app.testingEnabled():
            self.skipTest(f"{', '.join(missing)} not installed")
        ensureTrainingPackages(TITLE)
        slicer.mrmlScene.Clear()
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.logic = IPv2TrainLogic()

    def tearDown(self) -> None:
        """Leave an empty scene, no process and no file."""
        self.logic.close()
        slicer.mrmlScene.Clear()
        self.temporary.cleanup()

    def test_1_FromScansToModel(self) -> None:
        """Purify, train with a pause, compare, publish, and denoise with the model that came out."""
        import numpy as np
        from IPv2DenoiseLib.Logic import IPv2DenoiseLogic
        from IPv2Lib.datasets.settings import PreparationSettings
        from IPv2Lib.evaluation.settings import ComparisonSettings
        from IPv2Lib.simulation import phantom
        from IPv2Lib.training.run_folder import read_run
        from IPv2SlicerLib.scene import volume_nodes

        self.delayDisplay("Purify")
        dataset, run = self.folder / "data", self.folder / "data" / "runs" / "first"
        rows = self.logic.prepare(self._cases(), dataset, PreparationSettings(fractions=(0.5, 0.0, 0.5))).wait()
        self.assertEqual([row["status"] for row in rows], ["purified"] * PATIENTS)
        panel = slicer.modules.ipv2train.widgetRepresentation().self()
        panel.enter()
        panel.ui.datasetPathLineEdit.setCurrentPath(str(dataset))
        self._wait(lambda: panel.logic.getParameterNode().dataset == str(dataset))
        self.assertEqual(
            [panel.ui.casesTable.item(row, 0).text() for row in range(PATIENTS)], [row["name"] for row in rows]
        )

        self.delayDisplay("Train, pause, close the scene, resume, stop")
        job = self.logic.train(dataset, run, self._settings())
        self._wait(lambda: isTrained(run, 1))
        slicer.mrmlScene.Clear()
        self.logic.pause()
        paused = job.wait()
        self.assertEqual((paused.state, read_run(run).state), ("paused", "paused"))
        job = self.logic.resume(run)
        self._wait(lambda: isTrained(run, paused.step + 1))
        self.logic.stop()
        self.assertEqual(job.wait().state, "stopped")

        self.delayDisplay("Compare")
        comparison = self.folder / "data" / "comparisons" / "first"
        settings = ComparisonSettings(slices_per_case=1)
        nodes = self.logic.compare(dataset, ["input", str(run)], comparison, settings).wait()
        methods = {nodes.table.GetCellText(row, 0) for row in range(nodes.table.GetNumberOfRows())}
        self.assertTrue({"input", "first"} <= methods)

        self.delayDisplay("Publish")
        model = self.logic.publish(run, MODEL, title="Self-test", folder=self.folder / "models").wait()
        self.assertEqual(model["name"], MODEL)

        self.delayDisplay("Denoise with the new model")
        node = volume_nodes.volume_to_node(phantom.pair(seed=9, size=SIZE, slices=SLICES).uldct, "New patient")
        denoiser = IPv2DenoiseLogic()
        denoised = denoiser.denoise(node, model=model["model"]).wait().denoised
        denoiser.close()
        self.assertEqual(volume_nodes.provenance(denoised)["model"], MODEL)
        self.assertFalse(np.array_equal(slicer.util.arrayFromVolume(denoised), slicer.util.arrayFromVolume(node)))

    def test_2_BadInput(self) -> None:
        """What cannot be used is said in a sentence, before any work."""
        from IPv2Lib.errors import IPv2Error

        self.delayDisplay("Bad input")
        for act, says in (
            (lambda: self.logic.prepare([], self.folder / "data"), "no case"),
            (lambda: self.logic.train(self.folder / "nothing", self.folder / "run"), "ipv2 prepare"),
            (lambda: self.logic.resume(self.folder), "not a training run"),
            (lambda: self.logic.compare(self.folder, ["input"], self.folder / "c"), "ipv2 prepare"),
            (lambda: self.logic.physics(["input"], self.folder / "p"), "nothing to measure"),
            (lambda: self.logic.publish(self.folder, "name"), "not a training run"),
        ):
            with self.assertRaisesRegex(IPv2Error, says):
                act()
        self.assertEqual(list(self.folder.iterdir()), [])

    def _cases(self):
        """Synthetic patients, as files; the first one has a uLDCT."""
        from IPv2Lib.datasets.cases import Case
        from IPv2Lib.io import files
        from IPv2Lib.simulation import phantom

        cases = []
        for seed in range(PATIENTS):
            pair = phantom.pair(seed=seed, size=SIZE, slices=SLICES)
            ndct = files.write(pair.ndct, self.folder / f"{seed}-ndct.nrrd")
            uldct = files.write(pair.uldct, self.folder / f"{seed}-uldct.nrrd") if seed == 0 else None
            cases.append(Case(f"patient{seed}", ndct=ndct, uldct=uldct))
        return cases

    @staticmethod
    def _settings():
        from IPv2Lib.training.settings import TrainingSettings

        arguments = {"channels": [4, 8], "blocks": [1, 1]}
        return TrainingSettings(arguments=arguments, steps=STEPS, batch=2, patch=32, validate_every=10)

    def _wait(self, condition, seconds: float = 120) -> None:
        import time

        until = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), until, "nothing happened")
            slicer.app.processEvents()
            time.sleep(0.02)


def isTrained(run: Path, step: int) -> bool:
    """Whether a run has come so far."""
    from IPv2Lib.training import run_folder

    return run_folder.is_run(run) and run_folder.read_run(run).step >= step
