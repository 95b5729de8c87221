"""What a model says of the noise that it was trained on: measured, kept by the run, on the card, and used."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from IPv2Lib.analysis.noise import noise_sigma
from IPv2Lib.analysis.region_labels import Region
from IPv2Lib.analysis.suitability import concerns
from IPv2Lib.cli.commands import main
from IPv2Lib.datasets.shards import OUTSIDE, PurifiedDataset
from IPv2Lib.errors import BundleError
from IPv2Lib.io.volume import Volume
from IPv2Lib.models import bundle
from IPv2Lib.training.loop import train
from IPv2Lib.training.noise import input_noise
from IPv2Lib.training.publishing import publish
from IPv2Lib.training.run_folder import read_run
from IPv2Lib.training.settings import TrainingSettings
from samples import simulated_dataset

TINY = {"channels": [4], "blocks": [1]}


def flat_shard(sigma: float, seed: int = 0, slices: int = 4, share: float = 0.5) -> SimpleNamespace:
    """Soft tissue with white noise; beside it lung with much more, and tissue outside the field of view."""
    rng = np.random.default_rng(seed)
    shape = (slices, 192, 192)
    regions = np.full(shape, Region.SOFT_TISSUE)
    regions[:, :, 96:] = Region.LUNG
    masks = np.zeros(shape, np.uint8)
    masks[:, :64] = OUTSIDE
    noise = rng.normal(0, sigma, shape)
    noise[:, :, 96:] *= 9
    noise[:, :64] *= 30
    image = (40 + noise).astype(np.float32)

    def pair(where, strategy, blend=None):
        assert (strategy, blend) == ("ipv2", 0.25)
        return image[where], image[where]

    return SimpleNamespace(shape=shape, regions=regions, masks=masks, pair=pair)


def test_the_range_is_that_of_soft_tissue_in_the_field_of_view():
    low, high = input_noise([flat_shard(20.5, 0), flat_shard(60.5, 1), flat_shard(33, 2)], "ipv2", 0.25)
    assert low == pytest.approx(20, abs=1) and high == pytest.approx(61, abs=2)
    low, high = input_noise([flat_shard(20.5, slices=1)], "ipv2", 0.25)
    assert 19 <= low < high <= 22
    assert input_noise([flat_shard(0.0)], "ipv2", 0.25) is None


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    cases = [{"split": "train", "dose": dose, "seed": seed} for seed, dose in enumerate((0.002, 0.5))]
    return PurifiedDataset.read(simulated_dataset(tmp_path_factory.mktemp("noise"), *cases, size=160))


def trained(dataset, folder, **changes):
    settings = TrainingSettings(arguments=TINY, steps=1, batch=1, patch=32, device="cpu", **changes)
    return train(dataset, folder / "run", settings, workers=0)


def test_a_published_model_says_what_it_was_trained_on_and_warns_of_more_and_less(dataset, tmp_path, capsys):
    run = trained(dataset, tmp_path)
    low, high = read_run(run).data["noise_hu"]
    sigmas = [noise_sigma(shard.scan(np.s_[:]), shard.regions == Region.SOFT_TISSUE) for shard in dataset.shards]
    assert low <= min(sigmas) * 1.05 and high >= max(sigmas) * 0.95 and high - low > 10, (low, high, sigmas)
    model = publish(run, tmp_path / "model")
    assert model.card.noise_hu == (low, high) == bundle.load(model.folder).card.noise_hu
    for shard, sigma in zip(dataset.shards, sigmas, strict=True):
        volume = Volume(np.array(shard.uldct), (0.8, 0.8, 2.0))
        assert not [text for text in concerns(volume, model.card) if "noise" in text]
        noise = np.random.default_rng(0).normal(0, 2.2 * high, volume.array.shape)
        (said,) = [text for text in concerns(volume.with_array(volume.array + noise), model.card) if "noise" in text]
        assert f"trained on {low} to {high} HU" in said, sigma
    assert main(["models", str(model.folder)]) == 0
    assert f"Noise: {low} to {high} HU in soft tissue" in capsys.readouterr().out


def test_of_drawn_pairs_nothing_is_said(dataset, tmp_path):
    run = trained(dataset, tmp_path, pairs="simulated")
    assert "noise_hu" not in read_run(run).data
    assert "noise_hu" not in publish(run, tmp_path / "model").card.as_dict()


def test_a_person_may_say_it(dataset, tmp_path):
    run = trained(dataset, tmp_path, pairs="simulated")
    assert publish(run, tmp_path / "model", {"noise_hu": [12.5, 80]}).card.noise_hu == (12.5, 80)
    for wrong in ([80, 12], [12], [12, 12], [-1, 5], ["12", "80"], [float("nan"), 5], 12, None, [True, 5]):
        with pytest.raises(BundleError):
            publish(run, tmp_path / "other", {"noise_hu": wrong})
    path = tmp_path / "model" / bundle.CARD_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"noise_hu": [80, 12]}))
    with pytest.raises(BundleError, match=r"key 'noise_hu' is \[80, 12\]; it must be \[lowest, highest\]"):
        bundle.load(tmp_path / "model")
