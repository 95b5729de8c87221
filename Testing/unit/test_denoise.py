"""Inference: exact where it must be, repeatable, the same in pieces, and it gives up cleanly."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from IPv2Lib.analysis.region_labels import Region
from IPv2Lib.analysis.regions import segment
from IPv2Lib.errors import BundleError, Cancelled, InputError, IPv2Error
from IPv2Lib.inference.blending import blend, blend_and_subtract
from IPv2Lib.inference.denoise import denoise
from IPv2Lib.inference.tiling import Plan
from IPv2Lib.inference.torch_device import choose_device
from IPv2Lib.io.volume import Volume
from IPv2Lib.models import bundle
from IPv2Lib.networks import registry
from IPv2Lib.progress import Progress
from samples import CARD

ARGUMENTS = {"unet": {"channels": [4, 8], "blocks": [1, 1]}, "redcnn": {"filters": 4}}
GEOMETRY = {
    "spacing": (0.7, 0.8, 2.5),
    "origin": (-120.5, 33.0, 1000.25),
    "direction": (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0),
}


@pytest.fixture(scope="module", params=sorted(ARGUMENTS))
def model(request, tmp_path_factory):
    return random_model(tmp_path_factory.mktemp("models"), request.param)


@pytest.fixture(scope="module")
def unet(tmp_path_factory):
    return random_model(tmp_path_factory.mktemp("models"), "unet")


def random_model(folder, name, hu_range=(-1024, 3071)):
    """A bundle whose network changes its input by some tens of HU."""
    network = registry.build(name, **ARGUMENTS[name])
    generator = torch.Generator().manual_seed(3)
    state = {
        key: (1.0 / value[0].numel() ** 0.5 if value.ndim > 1 else 0.02) * torch.randn(value.shape, generator=generator)
        for key, value in network.state_dict().items()
    }
    return bundle.save(folder / name, name, ARGUMENTS[name], state, CARD | {"hu_range": list(hu_range)})


def noisy(shape=(5, 40, 48), seed=0, dtype=np.float32) -> Volume:
    """A body in room air with 60 HU of noise."""
    rng = np.random.default_rng(seed)
    array = np.full(shape, -1000.0)
    array[:, shape[1] // 4 : -shape[1] // 4 or None, shape[2] // 5 : -shape[2] // 5 or None] = 40.0
    array += rng.normal(0, 60, shape)
    return Volume(array.astype(dtype), **GEOMETRY)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(2, 50), st.integers(2, 50)),
    dtype=st.sampled_from([np.float32, np.int16]),
    strength=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 99),
)
def test_shape_type_and_geometry_are_kept(unet, shape, dtype, strength, seed):
    volume = noisy(shape, seed, dtype)
    before = volume.array.copy()
    result = denoise(volume, unet, strength=strength, device="cpu")
    for output in (result.volume, result.network_output):
        assert output.array.shape == shape and output.array.dtype == dtype
        assert (output.spacing, output.origin, output.direction) == tuple(GEOMETRY.values())
        assert np.isfinite(output.array).all()
    np.testing.assert_array_equal(volume.array, before)


def test_each_slice_is_the_network_on_its_neighbours(model):
    """Against the network called by hand, one slice after the other."""
    volume = noisy()
    network = model.network()
    result = denoise(volume, model, device="cpu").volume.array
    half = network.context // 2
    for index in range(len(volume.array)):
        neighbours = np.clip(np.arange(index - half, index + half + 1), 0, len(volume.array) - 1)
        x = torch.from_numpy(np.clip(volume.array[neighbours], -1024, 3071) / 1000)[None]
        expected = network(x)[0, 0].numpy() * 1000
        np.testing.assert_allclose(result[index], expected, atol=0.01)
    assert np.abs(result - volume.array).std() > 5, "the test's model does nothing"


def test_the_same_input_gives_the_same_bytes(model):
    first, second = (denoise(noisy(), model, device="cpu").volume.array for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_strength_zero_returns_the_input_exactly(unet):
    for dtype in (np.float32, np.int16):
        volume = noisy(dtype=dtype)
        assert denoise(volume, unet, strength=0, device="cpu").volume.array.tobytes() == volume.array.tobytes()


@settings(max_examples=10, deadline=None)
@given(strength=st.floats(0, 1))
def test_strength_is_linear(unet, strength):
    volume = noisy((2, 20, 20))
    result = denoise(volume, unet, strength=strength, device="cpu")
    full = result.network_output.array
    expected = volume.array + strength * (full.astype(np.float64) - volume.array)
    np.testing.assert_allclose(result.volume.array, expected, atol=1e-3)
    np.testing.assert_array_equal(blend(volume, result.network_output, strength).array, result.volume.array)


def test_int16_is_the_rounded_float_result(model):
    volume = noisy(dtype=np.int16)
    exact = denoise(volume.with_array(volume.array.astype(np.float32)), model, device="cpu").volume.array
    whole = denoise(volume, model, device="cpu").volume.array
    np.testing.assert_array_equal(whole, np.rint(exact).astype(np.int16))
    halfway = blend(volume, volume.with_array(whole), 0.5).array
    assert halfway.dtype == np.int16
    assert np.abs(halfway - (volume.array + whole) / 2).max() <= 0.5


@pytest.mark.parametrize("shape", [(2, 230, 200), (1, 150, 333)])
@pytest.mark.parametrize("test_time_augmentation", [False, True])
def test_tiles_agree_with_whole_slices(model, shape, test_time_augmentation):
    volume = noisy(shape)
    whole = denoise(volume, model, device="cpu", test_time_augmentation=test_time_augmentation)
    tiled = denoise(volume, model, device="cpu", test_time_augmentation=test_time_augmentation, tile=70)
    assert tiled.provenance["tile"] == 70
    np.testing.assert_allclose(tiled.volume.array, whole.volume.array, atol=0.01)


@pytest.mark.parametrize("batch", [1, 3])
def test_some_slices_are_those_of_the_whole(model, batch):
    volume = noisy((7, 40, 48))
    whole = denoise(volume, model, device="cpu").network_output.array
    some = denoise(volume, model, device="cpu", batch=batch, slices=[6, 0, 3, 3]).network_output.array
    assert np.allclose(some[[0, 3, 6]], whole[[0, 3, 6]], atol=0.01)
    assert np.array_equal(some[[1, 2, 4, 5]], volume.array[[1, 2, 4, 5]])


def test_batches_agree_with_single_slices(model):
    volume = noisy((7, 30, 30))
    single = denoise(volume, model, device="cpu").volume.array
    for batch in (2, 3, 100):
        together = denoise(volume, model, device="cpu", batch=batch).volume.array
        np.testing.assert_allclose(together, single, atol=0.01)


@pytest.mark.parametrize("shape", [(1, 2, 2), (1, 64, 64), (2, 2, 300), (3, 33, 2)])
def test_small_volumes(model, shape):
    assert denoise(noisy(shape), model, device="cpu").volume.array.shape == shape


@pytest.mark.parametrize("padding", [-2000, -3024, -1024])
def test_padding_comes_back_exactly_and_does_not_touch_the_rest(model, padding):
    volume = noisy((3, 96, 96), dtype=np.int16)
    rows, columns = np.ogrid[:96, :96]
    outside = (rows - 47.5) ** 2 + (columns - 47.5) ** 2 > 46**2
    array = np.where(volume.array == padding, padding + 1, volume.array)
    array[:, outside] = padding
    result = denoise(volume.with_array(array), model, device="cpu").volume.array
    assert (result[:, outside] == padding).all()
    array[:, outside] = -1000
    as_air = denoise(volume.with_array(array), model, device="cpu").volume.array
    np.testing.assert_array_equal(result[:, ~outside], as_air[:, ~outside])


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_outside_of_the_body_the_input_comes_back_if_asked_for(model, dtype, strength):
    volume = noisy((3, 96, 96), dtype=dtype)
    room = segment(volume.array, volume.spacing) == Region.BACKGROUND
    assert 0.3 < room.mean() < 0.8
    kept = denoise(volume, model, strength=strength, keep_outside_body=True, device="cpu", batch=2)
    plain = denoise(volume, model, strength=strength, device="cpu", batch=2)
    for with_room, without in ((kept.volume, plain.volume), (kept.network_output, plain.network_output)):
        np.testing.assert_array_equal(with_room.array[room], volume.array[room])
        np.testing.assert_array_equal(with_room.array[~room], without.array[~room])
        assert np.abs(without.array[room].astype(float) - volume.array[room]).max() > 1
    assert (kept.provenance["keep_outside_body"], plain.provenance["keep_outside_body"]) == (True, False)


def test_of_strong_noise_as_much_is_kept_as_was_asked_for(model):
    volume = noisy((2, 128, 128))
    before = volume.array.astype(np.float64)
    whole, part = (
        before - denoise(volume, model, device="cpu", residual_noise_hu=kept).volume.array for kept in (0.0, 3.0)
    )
    back = whole - part
    assert whole.std() > 10 and back.std() == pytest.approx(3, rel=0.15)
    seen = before > -1024  # what is lower is clipped before the network sees it
    fraction = back[seen & (np.abs(whole) > 1)] / whole[seen & (np.abs(whole) > 1)]
    assert fraction.min() > 0 and fraction.max() < 1  # a part of what was removed, and nothing else


def test_noise_that_is_weaker_than_what_is_kept_stays_as_it_is(model):
    volume = noisy((1, 96, 96))
    volume = volume.with_array(volume.array.clip(-1024))
    kept = denoise(volume, model, device="cpu", residual_noise_hu=9000.0, strength=0.7)
    np.testing.assert_allclose(kept.volume.array, volume.array, atol=0.001)
    metal = volume.with_array(np.where(volume.array > 150, 9000, volume.array))
    kept = denoise(metal, model, device="cpu", residual_noise_hu=9000.0)
    np.testing.assert_allclose(kept.volume.array, metal.array, atol=0.001)


def test_the_card_says_how_much_noise_is_kept_and_a_caller_otherwise(unet):
    keeping = bundle.Bundle(unet.folder, replace(unet.card, residual_noise_hu=5))
    found = {
        (name, kept): denoise(noisy(), model, device="cpu", residual_noise_hu=kept)
        for name, model in (("plain", unet), ("keeping", keeping))
        for kept in (None, 0, 5)
    }
    for key, expected in {("plain", None): 0.0, ("keeping", None): 5.0, ("keeping", 0): 0.0, ("plain", 5): 5.0}.items():
        assert found[key].provenance["residual_noise_hu"] == expected
        np.testing.assert_array_equal(found[key].volume.array, found["plain", int(expected)].volume.array)


@pytest.mark.parametrize("kept", [-1.0, float("nan"), float("inf")])
def test_noise_that_cannot_be_kept_is_refused(unet, kept):
    with pytest.raises(InputError, match=f"residual noise is {kept} HU"):
        denoise(noisy(), unet, device="cpu", residual_noise_hu=kept)


def test_the_self_ensemble_is_the_mean_of_all_that_a_model_says_of_turned_and_mirrored_slices(model):
    volume = noisy((3, 96, 192))

    def turned(array: np.ndarray, view: int) -> np.ndarray:
        return np.rot90(np.flip(array, 1) if view > 3 else array, view, (1, 2))

    def back(array: np.ndarray, view: int) -> np.ndarray:
        array = np.rot90(array, -view, (1, 2))
        return np.flip(array, 1) if view > 3 else array

    each = [
        back(denoise(volume.with_array(turned(volume.array, view).copy()), model, device="cpu").volume.array, view)
        for view in range(8)
    ]
    assert np.abs(each[0] - each[5]).max() > 1
    found = denoise(volume, model, device="cpu", test_time_augmentation=True)
    np.testing.assert_allclose(found.volume.array, np.mean(each, axis=0), atol=0.01)
    assert found.provenance["test_time_augmentation"] is True


def test_metal_stays_and_noise_below_air_does_not(model):
    volume = noisy((2, 60, 60))
    volume.array[:, 20:24, 20:24] = 12_000
    volume.array[:, 30:50, 2:12] = -1500
    clipped = volume.with_array(volume.array.clip(-1024, 3071))
    result, limited = (denoise(v, model, device="cpu").volume.array for v in (volume, clipped))
    metal = volume.array > 3071
    np.testing.assert_allclose(result[metal], limited[metal] + (12_000 - 3071), atol=0.01)
    np.testing.assert_array_equal(result[~metal], limited[~metal])


def test_where_it_came_from(unet):
    result = denoise(noisy(), unet, strength=0.5, device="cpu")
    assert json.loads(json.dumps(result.provenance)) == result.provenance
    assert result.provenance.items() >= {
        "model": "unet", "weights_sha256": unet.hash, "strength": 0.5, "device": "cpu", "precision": "float32",
    }.items()  # fmt: skip
    assert set(result.provenance["versions"]) == {"IPv2Lib", "torch", "numpy"}
    assert 0 < result.provenance["network_seconds"] <= result.provenance["seconds"]


def test_progress_rises_to_one_and_names_what_is_done(unet):
    said = []
    denoise(noisy(), unet, device="cpu", progress=Progress(lambda fraction, text: said.append((fraction, text))))
    fractions = [fraction for fraction, _ in said]
    assert fractions == sorted(fractions) and (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert "denoising slice 3 of 5" in [text for _, text in said]


@pytest.mark.parametrize("polls", [0, 1, 3])
def test_cancel_is_asked_for_each_slice_and_changes_nothing(unet, polls):
    volume = noisy()
    before = volume.array.copy()
    asked = []

    def cancelled():
        asked.append(True)
        return len(asked) > polls

    with pytest.raises(Cancelled):
        denoise(volume, unet, device="cpu", progress=Progress(cancelled=cancelled))
    assert len(asked) == polls + 1
    np.testing.assert_array_equal(volume.array, before)


def test_cancel_is_asked_for_each_tile(unet):
    asked = []
    denoise(noisy((1, 128, 128)), unet, device="cpu", tile=64, progress=Progress(cancelled=lambda: asked.append(True)))
    assert len(asked) == 4
    asked.clear()
    denoise(
        noisy((1, 64, 64)),
        unet,
        device="cpu",
        test_time_augmentation=True,
        progress=Progress(cancelled=lambda: asked.append(True)),
    )
    assert len(asked) == 8


class Hungry(torch.nn.Module):
    """Fails as a full device does, for more than `limit` pixels at once."""

    context, halo = 1, 0

    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    def forward(self, x):
        if x.numel() > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return x * 0.9


def test_smaller_pieces_when_memory_runs_out(unet, monkeypatch):
    volume = noisy((8, 300, 300))
    said = []
    monkeypatch.setattr(bundle.Bundle, "network", lambda self: Hungry(150 * 150))
    result = denoise(volume, unet, device="cpu", batch=4, progress=Progress(lambda _, text: said.append(text)))
    np.testing.assert_allclose(result.volume.array[1], volume.array[1].clip(-1024, 3071) * 0.9, atol=0.01)
    assert (result.provenance["batch"], result.provenance["tile"]) == (1, 128)
    assert [text for text in said if "not enough memory" in text] == [
        "not enough memory (cpu, whole slices, 4 at once); going on with cpu, whole slices, 2 at once",
        "not enough memory (cpu, whole slices, 2 at once); going on with cpu, whole slices, 1 at once",
        "not enough memory (cpu, whole slices, 1 at once); going on with cpu, tiles of 256×256 pixels, 1 at once",
        "not enough memory (cpu, tiles of 256×256 pixels, 1 at once); "
        "going on with cpu, tiles of 128×128 pixels, 1 at once",
    ]


def test_no_memory_at_all(unet, monkeypatch):
    monkeypatch.setattr(bundle.Bundle, "network", lambda self: Hungry(10))
    with pytest.raises(IPv2Error, match=r"not enough memory for slices of 40×48 pixels"):
        denoise(noisy(), unet, device="cpu")


def test_other_errors_of_the_network_are_not_hidden(unet, monkeypatch):
    class Broken(Hungry):
        def forward(self, x):
            raise RuntimeError("a bug")

    monkeypatch.setattr(bundle.Bundle, "network", lambda self: Broken(0))
    with pytest.raises(RuntimeError, match="a bug"):
        denoise(noisy(), unet, device="cpu")


def test_answers_that_are_not_finite_are_an_error(unet, monkeypatch):
    class Dividing(Hungry):
        def forward(self, x):
            return x / 0

    monkeypatch.setattr(bundle.Bundle, "network", lambda self: Dividing(0))
    with pytest.raises(IPv2Error, match="not finite"):
        denoise(noisy(), unet, device="cpu")


def test_a_plan_ends_on_the_cpu():
    plan, seen = Plan("cuda:0", 5), []
    while plan:
        seen.append((plan.device, plan.batch, plan.tile))
        plan = plan.smaller()
    assert seen[:4] == [("cuda:0", 5, None), ("cuda:0", 2, None), ("cuda:0", 1, None), ("cuda:0", 1, 256)]
    assert seen[5:] == [("cuda:0", 1, 64), *(("cpu", 1, tile) for tile in (None, 256, 128, 64))]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strength": -0.1}, "strength is -0.1"),
        ({"strength": 1.01}, "strength is 1.01"),
        ({"strength": float("nan")}, "strength is nan"),
        ({"batch": 0}, "batch is 0"),
        ({"tile": 8}, "tile is 8"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"device": "cuda:x"}, "unknown device"),
        ({"device": "cuda:999"}, "'cuda:999' is absent"),
        ({"slices": []}, "a volume that has 1"),
        ({"slices": [0, 1]}, "from 0 to 0"),
        ({"slices": [-1]}, "from 0 to 0"),
    ],
)
def test_parameters_out_of_range(unet, arguments, message):
    with pytest.raises(InputError, match=message):
        denoise(noisy((1, 4, 4)), unet, **{"device": "cpu", **arguments})


@pytest.mark.parametrize(
    "array",
    [np.full((2, 8, 8), np.nan), np.zeros((2, 8, 8)), np.ones((8, 8)), np.ones((1, 1, 9)), np.eye(8)[None] * 255],
    ids=["nan", "constant", "2-D", "one row", "picture"],
)
def test_what_is_no_ct(unet, array):
    with pytest.raises(InputError):
        denoise(Volume(array.astype(np.float32)), unet, device="cpu")


def test_a_bundle_that_is_damaged_meanwhile(tmp_path):
    model = random_model(tmp_path, "unet")
    (model.folder / bundle.WEIGHTS_FILE).write_bytes(b"")
    with pytest.raises(BundleError, match="truncated"):
        denoise(noisy(), model, device="cpu")


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("strength", [0.0, 0.37, 1.0])
def test_what_was_removed_is_the_difference(dtype, strength):
    volume, output = noisy(dtype=dtype), noisy(seed=1, dtype=dtype)
    before = volume.array.copy()
    found = blend_and_subtract(volume, output, strength)
    np.testing.assert_array_equal(found.denoised.array, blend(volume, output, strength).array)
    np.testing.assert_array_equal(found.removed.array, before - found.denoised.array)
    found.denoised.array[:] = 0
    np.testing.assert_array_equal(volume.array, before)
    np.testing.assert_array_equal(output.array, noisy(seed=1, dtype=dtype).array)
    with pytest.raises(InputError, match="shapes"):
        blend_and_subtract(volume, noisy((1, 4, 4), dtype=dtype), strength)


def test_differences_beyond_the_type_are_clipped():
    volume, output = (Volume(np.full((1, 2, 2), value, np.int16)) for value in (30000, -30000))
    assert (blend_and_subtract(volume, output, 1.0).removed.array == 32767).all()


def test_volumes_of_different_shape_do_not_blend():
    with pytest.raises(InputError, match="shapes"):
        blend(noisy((1, 4, 4)), noisy((1, 4, 5)), 0.5)


def test_auto_is_a_device_that_works():
    device = choose_device("auto")
    assert device == choose_device(device)
    if not torch.cuda.is_available():
        assert device == "cpu"
        with pytest.raises(InputError, match="'cuda' is absent"):
            choose_device("cuda")
