"""The module's self-test: everything it does once, on a small synthetic chest, without a network connection."""

import tempfile
from functools import lru_cache
from pathlib import Path

import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

SIZE, SLICES = 96, 4


@lru_cache(maxsize=1)
def _pair():
    from IPv2Lib.simulation import phantom

    return phantom.pair(size=SIZE, slices=SLICES)


class IPv2DenoiseTest(ScriptedLoadableModuleTest):
    """Runs in *Reload and Test* and with ctest; under a minute on a CPU."""

    def setUp(self) -> None:
        """An empty scene with a synthetic pair."""
        from IPv2SlicerLib.jobs.Packages import ensurePackages, missingPackages
        from IPv2SlicerLib.scene import volume_nodes

        from .Logic import IPv2DenoiseLogic
        from .Messages import TITLE

        missing = missingPackages()
        if missing and slicer.app.testingEnabled():
            self.skipTest(f"{', '.join(missing)} not installed")
        ensurePackages(TITLE)
        slicer.mrmlScene.Clear()
        pair = _pair()
        self.uldct = volume_nodes.volume_to_node(pair.uldct, "uLDCT")
        self.ndct = volume_nodes.volume_to_node(pair.ndct, "NDCT")
        self.logic = IPv2DenoiseLogic()

    def tearDown(self) -> None:
        """Leave an empty scene and no process."""
        self.logic.close()
        slicer.mrmlScene.Clear()

    def test_1_Denoise(self) -> None:
        """The noise goes, means and geometry stay, the strength can be changed afterwards."""
        import numpy as np
        from IPv2SlicerLib.scene import blending, volume_nodes

        self.delayDisplay("Denoise")
        heard = []
        nodes = self.logic.denoise(self.uldct).onProgress(lambda fraction, message: heard.append(fraction)).wait()
        before, after = slicer.util.arrayFromVolume(self.uldct), slicer.util.arrayFromVolume(nodes.denoised)
        self.assertEqual(nodes.denoised.GetName(), "uLDCT denoised")
        self.assertEqual(nodes.denoised.GetOrigin(), self.uldct.GetOrigin())
        noise = {nodes.table.GetCellText(row, 0): nodes.table.GetCellText(row, 5) for row in range(3)}
        self.assertGreater(float(noise["Outside the body"]), 20)  # % less
        self.assertLess(abs(float(after.mean() - before.mean())), 20)
        self.assertEqual(heard, sorted(heard))
        self.assertIn("weights_sha256", volume_nodes.provenance(nodes.denoised))
        self.assertEqual(slicer.mrmlScene.GetSubjectHierarchyNode().GetItemParent(
            slicer.mrmlScene.GetSubjectHierarchyNode().GetItemByDataNode(nodes.denoised)
        ), slicer.mrmlScene.GetSubjectHierarchyNode().GetItemParent(
            slicer.mrmlScene.GetSubjectHierarchyNode().GetItemByDataNode(self.uldct)
        ))  # fmt: skip
        self.assertEqual(nodes.table.GetNumberOfColumns(), len(blending.COLUMNS))

        blending.set_strength(nodes.denoised, 0.0)
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(nodes.denoised), before)

    def test_2_Purify(self) -> None:
        """Preview and volume agree on the masks of a slice."""
        import numpy as np
        from IPv2Lib.io import files

        self.delayDisplay("Purify")
        stages = self.logic.purify(self.uldct, self.ndct).wait()
        preview = self.logic.previewSlice(self.uldct, self.ndct, sliceIndex=SLICES // 2).wait()
        with tempfile.TemporaryDirectory() as folder:
            whole, one = (self._exported(each, Path(folder) / name) for each, name in ((stages, "a"), (preview, "b")))
            mask = files.read(whole / "cm2-label.nrrd").array
            self.assertGreater(mask.mean(), 0.01)
            np.testing.assert_array_equal(mask[SLICES // 2], files.read(one / "cm2-label.nrrd").array[0])

    def test_3_Cancel(self) -> None:
        """A cancelled job changes nothing."""
        from IPv2Lib.errors import Cancelled

        self.delayDisplay("Cancel")
        before = slicer.mrmlScene.GetNumberOfNodes()
        finished = []
        job = self.logic.denoise(self.uldct).onFinished(finished.append)
        self.assertTrue(job.active)
        job.cancel()
        with self.assertRaises(Cancelled):
            job.wait()
        self.assertEqual(job.state.value, "cancelled")
        self.assertEqual((finished, slicer.mrmlScene.GetNumberOfNodes()), ([None], before))

    def test_4_BadInput(self) -> None:
        """What cannot be denoised is said in a sentence, before any work, and changes nothing."""
        import numpy as np
        from IPv2Lib.errors import IPv2Error

        self.delayDisplay("Bad input")
        bad = slicer.util.addVolumeFromArray(np.full((2, 8, 8), np.nan, np.float32), name="Bad")
        before = slicer.mrmlScene.GetNumberOfNodes()
        for arguments, says in (
            ((None,), "no volume"),
            ((bad,), "NaN"),
            ((self.uldct, self.uldct), "is the input"),
            ((self.uldct, None, 1.5), "strength"),
            ((self.uldct, None, 1.0, "no such model"), "no such model"),
        ):
            with self.assertRaisesRegex(IPv2Error, says):
                self.logic.denoise(*arguments).wait()
        with self.assertRaisesRegex(IPv2Error, "both"):
            self.logic.purify(self.uldct, self.uldct)
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodes(), before)

    def test_5_SceneSaveAndReload(self) -> None:
        """Parameters and results come back with the scene."""
        from IPv2SlicerLib.scene import result_nodes

        self.delayDisplay("Save and reload the scene")
        parameters = self.logic.getParameterNode()
        parameters.inputVolume = self.uldct
        parameters.strengthPercent = 40.0
        parameters.dosePercent = 5.0
        self.logic.denoise(self.uldct, strength=0.4).wait()
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "scene.mrb")
            self.assertTrue(slicer.util.saveScene(path))
            slicer.mrmlScene.Clear()
            slicer.util.loadScene(path)
        parameters = self.logic.getParameterNode()
        self.assertEqual(parameters.inputVolume.GetName(), "uLDCT")
        self.assertEqual((parameters.strengthPercent, parameters.dosePercent), (40.0, 5.0))
        nodes = result_nodes.nodes_of(slicer.util.getNode("uLDCT denoised"))
        self.assertEqual(nodes.input.GetName(), "uLDCT")

    def test_6_Widget(self) -> None:
        """The panel denoises, also after it was built anew while a job was running."""
        self.delayDisplay("Panel")
        self._panel().enter()
        self._panel().ui.denoiseButton.click()
        self.assertTrue(self._panel().logic.runner.state.active)
        first = self._panel()
        slicer.util.reloadScriptedModule("IPv2Denoise")
        self.assertFalse(first.logic.runner.state.active)
        panel = self._panel()
        self.assertIsNot(panel, first)
        panel.enter()
        panel.ui.denoiseButton.click()
        panel.logic.runner.wait(60, tick=slicer.app.processEvents)
        self.assertEqual(panel.logic.runner.state.value, "completed")
        self.assertIsNotNone(slicer.util.getNode("uLDCT denoised"))
        self.assertTrue(panel.ui.saveButton.isEnabled())

    @staticmethod
    def _panel():
        return slicer.modules.ipv2denoise.widgetRepresentation().self()

    @staticmethod
    def _exported(stages, folder: Path) -> Path:
        from IPv2SlicerLib.scene import stage_nodes

        stage_nodes.export_stages(stages, folder)
        return folder
