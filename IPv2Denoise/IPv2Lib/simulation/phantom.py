"""A synthetic chest, from a seed, whose ground truth is known: the stand-in for patients in tests and the demo.

Owns the anatomy and its breathing. Every organ is a closed shape in millimetres, so the same seed is the same
patient at any size. Coordinates are LPS with the origin in the middle of the field of view: x to the patient's
left, y to the back, z to the head. Noise belongs to `dose`. No part is measured from a person, and none is meant
for dosimetry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from ..analysis.region_labels import Region
from ..hounsfield import NO_DATA_HU
from ..io.volume import Volume
from .settings import PhantomSettings

FIELD_OF_VIEW_MM = 350.0
LENGTH_MM = 280.0
"""Height of the chest, from the liver to above the apex of the lung."""
THICKEST_SLICE_MM = 5.0

AIR, FAT, MUSCLE, BLOOD, LUNG = -1000.0, -105.0, 52.0, 42.0, -862.0
CORTICAL, MARROW, CARTILAGE = 850.0, 170.0, 95.0

Points = tuple[np.ndarray, np.ndarray, np.ndarray]
"""x, y, z in mm: arrays that broadcast."""


@dataclass(frozen=True)
class Nodule:
    """A nodule of the lung at rest: centre (x, y, z) and diameter in mm, HU inside."""

    center: tuple[float, float, float]
    diameter: float
    hu: float


@dataclass(frozen=True, eq=False)
class Pair:
    """Two scans of one synthetic patient who breathed in between.

    Attributes
    ----------
    uldct : Volume
        Low dose, float32 HU, with the lungs moved by `motion`.
    ndct : Volume
        Full dose, float32 HU, with the lungs at rest.
    ground_truth : Volume
        What `uldct` would be without noise.
    labels : ndarray of uint8, shape (slices, rows, columns)
        `Region` of every voxel of `ground_truth`, known from the shapes.
    """

    uldct: Volume
    ndct: Volume
    ground_truth: Volume
    labels: np.ndarray


def chest(seed: int = 0, size: int = 256, slices: int = 32, motion: float = 0.0, field_of_view: bool = True) -> Volume:
    """Make a chest CT without noise.

    Parameters
    ----------
    seed : int
        The patient: build, heart, vessel and airway trees, nodules, texture.
    size : int
        Rows and columns, at least 2; the pixel spacing is 350 mm / size.
    slices : int
        At least 1, around the middle of the lungs, 5 mm apart or, from 57 on, as close as 280 mm allow.
    motion : float
        mm by which the domes of the diaphragm are lower than at rest, -30 to 30. Lungs, heart and great vessels
        follow smoothly; chest wall, spine and table stay.
    field_of_view : bool
        Pad outside the inscribed circle with -1024 HU, as scanners do; else the corners are air.

    Returns
    -------
    Volume
        float32, HU, shape (slices, size, size), centred on the origin.

    Raises
    ------
    InputError
        If a parameter is out of its range.

    Examples
    --------
    >>> volume = chest(seed=1, size=32, slices=2)
    >>> volume.array.shape, volume.spacing
    ((2, 32, 32), (10.9375, 10.9375, 5.0))
    """
    return _scan(seed, size, slices, motion, field_of_view)[0]


def pair(seed: int = 0, size: int = 256, slices: int = 32, dose: float = 0.02, motion: float = 8.0) -> Pair:
    """Scan one synthetic patient twice: full dose at rest, then low dose after respiratory motion.

    Parameters
    ----------
    seed, size, slices : int
        As for `chest`; the seed also decides the noise.
    dose : float
        Dose fraction of the uLDCT, in (0, 1].
    motion : float
        mm between the two scans, as for `chest`.

    Raises
    ------
    InputError
        If a parameter is out of its range.
    """
    from .dose import simulate

    rest, _ = _scan(seed, size, slices, 0.0, True)
    ground_truth, labels = _scan(seed, size, slices, motion, True)
    return Pair(
        uldct=simulate(ground_truth, dose, seed=2 * seed + 1, source_dose=None),
        ndct=simulate(rest, 1.0, seed=2 * seed, source_dose=None),
        ground_truth=ground_truth,
        labels=labels,
    )


def section(seed: int, size: int, slices: int, thickness: float) -> tuple[Volume, np.ndarray]:
    """A part of `chest` around the middle of its lungs in thinner slices (mm), and the `Region` of every voxel."""
    return _scan(seed, size, slices, 0.0, True, thickness)


def nodules(seed: int = 0) -> tuple[Nodule, ...]:
    """The nodules of a patient, up to six of 3 to 10 mm, one of them of ground glass."""
    return _patient(seed).nodules


def _scan(
    seed: int, size: int, slices: int, motion: float, field_of_view: bool, thickest: float = THICKEST_SLICE_MM
) -> tuple[Volume, np.ndarray]:
    """Volume and labels."""
    PhantomSettings(size=size, slices=slices, motion=motion, seed=seed)  # refuses what is out of range
    patient = _patient(seed)
    pixel = FIELD_OF_VIEW_MM / size
    thickness = min(thickest, LENGTH_MM / slices)
    along = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * np.float32(pixel)
    heights = (np.arange(slices, dtype=np.float32) - (slices - 1) / 2) * np.float32(thickness)
    blur = max(pixel, 1.0)
    canvas = _Canvas(along, heights, blur, (size, slices))
    patient.draw_tubes(canvas, motion)
    hu = np.empty((slices, size, size), np.float32)
    labels = np.empty(hu.shape, np.uint8)
    x, y = along[None, :], along[:, None]
    for index, z in enumerate(heights):
        tubes = {name: volume[index] for name, volume in canvas.coverage.items()}
        hu[index], labels[index] = patient.slice(x, y, z, motion, blur, tubes)
    if field_of_view:
        outside = np.hypot(x, y) > FIELD_OF_VIEW_MM / 2
        hu[:, outside], labels[:, outside] = NO_DATA_HU, Region.OUTSIDE
    origin = (float(along[0]), float(along[0]), float(heights[0]))
    return Volume(hu, (pixel, pixel, thickness), origin), labels


@lru_cache(maxsize=8)
def _patient(seed: int) -> _Patient:
    return _Patient(seed)


class _Canvas:
    """Coverage (0 to 1) of a grid by round cones, one array per kind."""

    KINDS = ("blood", "lumen", "wall", "great", "bone", "nodule")

    def __init__(self, along: np.ndarray, heights: np.ndarray, blur: float, shape: tuple[int, int]):
        self.along, self.heights, self.blur = along, heights, blur
        self.coverage = {kind: np.zeros((shape[1], shape[0], shape[0]), np.float32) for kind in self.KINDS}

    def cone(self, kind: str, start: np.ndarray, end: np.ndarray, radius: float, end_radius: float) -> None:
        """Draw a tube from `start` to `end` (mm) that tapers; thinner than the blur, it fades by its area."""
        self.cones(kind, start[None], end[None], np.array([radius]), np.array([end_radius]))

    def cones(self, kind: str, starts: np.ndarray, ends: np.ndarray, radii: np.ndarray, end_radii: np.ndarray) -> None:
        """Draw many."""
        reach = (np.maximum(radii, end_radii) + self.blur)[:, None]
        low, high = np.minimum(starts, ends) - reach, np.maximum(starts, ends) + reach
        first = np.stack([np.searchsorted(axis, low[:, at]) for at, axis in enumerate(self._axes)], axis=1)
        last = np.stack([np.searchsorted(axis, high[:, at]) for at, axis in enumerate(self._axes)], axis=1)
        for at in np.flatnonzero((first < last).all(axis=1)):
            box = tuple(map(slice, first[at], last[at]))
            self._draw(self.coverage[kind], box, starts[at], ends[at], radii[at], end_radii[at])

    def _draw(
        self,
        coverage: np.ndarray,
        box: tuple[slice, ...],
        start: np.ndarray,
        end: np.ndarray,
        radius: float,
        end_radius: float,
    ) -> None:
        x, y, z = (axis[part] for axis, part in zip(self._axes, box, strict=True))
        x, y, z = x[None, None, :] - start[0], y[None, :, None] - start[1], z[:, None, None] - start[2]
        step = end - start
        place = np.clip((x * step[0] + y * step[1] + z * step[2]) / max(float(step @ step), 1e-6), 0, 1)
        distance = np.sqrt((x - place * step[0]) ** 2 + (y - place * step[1]) ** 2 + (z - place * step[2]) ** 2)
        local = radius + (end_radius - radius) * place
        covered = np.clip(0.5 + (local - distance) / self.blur, 0, 1)
        covered *= local**2 / (local**2 + self.blur**2 / 12)
        target = coverage[box[::-1]]
        np.maximum(target, covered, out=target)

    @property
    def _axes(self) -> Points:
        return self.along, self.along, self.heights


@dataclass(frozen=True)
class _Segment:
    """A piece of a tree: ends in mm, radii in mm."""

    start: np.ndarray
    end: np.ndarray
    radius: float
    end_radius: float


class _Patient:
    """Everything that the seed decides, and the shapes."""

    def __init__(self, seed: int):
        random = np.random.default_rng([seed, 2602])
        self.width = random.uniform(0.95, 1.04)
        self.depth = random.uniform(0.94, 1.03)
        self.fat = random.uniform(7, 15)
        self.wobble = random.uniform(0, 2 * np.pi, 4)
        self.heart_size = random.uniform(0.92, 1.08)
        self.spine_phase = random.uniform(0, 24)
        self.rib_phase = random.uniform(0, 25)
        self.dome = random.uniform(-6, 6)
        self.dependent = random.uniform(0.35, 0.6)  # HU per mm: the back of the lung is denser
        self.lung_hu = LUNG + random.uniform(-14, 14)
        # Waves of value noise, repeated every 64 knots: independent of the grid, cheap, without a seam nearby.
        self.noise = ndimage.gaussian_filter(random.normal(size=(64, 64, 64)), 0.7, mode="wrap").astype(np.float32)
        self.noise /= self.noise.std()
        self._grow_lungs(random)

    # --- breathing ---

    def at_rest(self, points: Points, motion: float) -> Points:
        """Where the tissue that is now at these points lies at rest."""
        x, y, z = points
        if motion == 0:
            return points
        free = _step((1.0 - self._cavity_radius(x, y, z)) / 0.5)
        low = _step((110.0 - z) / 170.0)
        move = np.float32(motion) * free * low
        return x - 0.18 * move * np.sin(x / 45.0), y + 0.22 * move, z + move

    def moved(self, point: np.ndarray, motion: float) -> np.ndarray:
        """Where tissue that lies at these points (..., 3) at rest is now (inverse of `at_rest`)."""
        now = point
        for _ in range(8 if motion else 0):
            now = now + point - np.stack(self.at_rest(tuple(now.T), motion), axis=-1)
        return now

    # --- shapes: signed distances in mm, negative inside ---

    def body(self, x: np.ndarray, y: np.ndarray, z: float) -> np.ndarray:
        half_width = self.width * (154 + 7 * _bell(z, 75, 55) - 6 * _bell(z, -10, 50))
        half_depth = self.depth * (109 - 28 * _step((z - 25) / 120) + 2 * _bell(z, -60, 50))
        angle = np.arctan2(y, x)
        groove = 6 * _bell(x, 0, 13) * (y > 0) + 3 * _bell(x, 0, 16) * (y < 0)
        wobble = 1.6 * np.cos(3 * angle + self.wobble[0]) + 1.1 * np.cos(5 * angle + self.wobble[1] + z / 60)
        return _oval(x, y - (106 - half_depth), half_width, half_depth, 2.5) + groove + wobble

    def _cavity_axes(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Half width, half depth and centre (y) of the inside of the rib cage."""
        width = 127 * self.width * np.sqrt(np.clip(1 - (np.maximum(z + 55, 0) / 190) ** 2, 0.02, 1))
        depth = 84 * self.depth * np.sqrt(np.clip(1 - (np.maximum(z + 65, 0) / 210) ** 2, 0.02, 1))
        return width, depth, 78 - 0.94 * depth - 0.06 * 84

    def _cavity_radius(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """0 in the middle of the rib cage, 1 on its inside."""
        width, depth, center = self._cavity_axes(z)
        return np.sqrt((x / width) ** 2 + ((y - center) / depth) ** 2)

    def cavity(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        width, depth, center = self._cavity_axes(z)
        return _oval(x, y - center, width, depth, 2.15)

    def diaphragm(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Negative below it."""
        right = ((x + 56) / 80) ** 2 + ((y + 8) / 92) ** 2
        left = ((x - 60) / 78) ** 2 + ((y + 4) / 92) ** 2
        right_dome = -64 + self.dome - right * (24 + 26 * np.minimum(right, 4) ** 2)
        left_dome = -78 + self.dome - left * (24 + 26 * np.minimum(left, 4) ** 2)
        return 0.7 * (z - _smooth_max(right_dome, left_dome, 10))

    def heart(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        s = self.heart_size
        dx, dy, dz = x - 24, y + 30, z + 52
        long = 0.72 * dx - 0.48 * dy - 0.50 * dz
        across = 0.55 * dx + 0.83 * dy
        up = 0.42 * dx - 0.28 * dy + 0.86 * dz
        ventricles = _ellipsoid(long, across, up, 63 * s, 43 * s, 45 * s)
        right_atrium = _ellipsoid(x + 20, y + 20, z + 40, 27 * s, 30 * s, 38 * s)
        left_atrium = _ellipsoid(x - 2, y - 8, z + 22, 34 * s, 19 * s, 22 * s)
        return _smooth_min(_smooth_min(ventricles, right_atrium, 8), left_atrium, 8)

    def mediastinum(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        half = 5 + 24 * _bell(y, 0, 40) * (0.7 + 0.3 * _step((z + 20) / 60)) + 10 * _bell(y, 70, 22)
        half = half + 7 * _step((z - 70) / 50) - 4 * _bell(z, -95, 25)
        slab = np.abs(x - 2 - 5 * _bell(y, -70, 30)) - half
        return _smooth_min(slab, self.heart(x, y, z) - 3.5, 6)

    def vertebra(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return _oval(x, y - 52, 16.5, 14.5, 2.3)

    def lung(self, points: Points, rest: Points) -> np.ndarray:
        """Wall and spine where they are, the rest where it has moved to."""
        x, y, z = points
        wall = np.maximum(self.cavity(x, y, z), -(self.vertebra(x, y) - 4))
        soft = np.maximum(-self.mediastinum(*rest), -self.diaphragm(*rest))
        return _smooth_max(wall, soft, 3)

    # --- what grows inside the lungs ---

    def _grow_lungs(self, random: np.random.Generator) -> None:
        box = random.uniform((-130, -95, -140), (130, 90, 130), (40000, 3))
        points = tuple(box.T)
        depth = self.lung(points, points)
        inside = box[depth < -2.5]
        deep = box[(depth < -12) & (np.abs(box[:, 2]) < 90)]
        self.arteries: list[_Segment] = []
        self.veins: list[_Segment] = []
        for side, hilum in ((-1, (-34.0, 2.0, 8.0)), (1, (38.0, 5.0, 18.0))):
            lung = inside[np.sign(inside[:, 0]) == side]
            half = len(lung) // 2
            _branch(self.arteries, np.array(hilum), lung[:half][:1700], 8.2, random)
            vein_root = np.array([side * 26.0, 8.0, -18.0])
            _branch(self.veins, vein_root, lung[half:][:1500], 7.4, random)
        self.nodules = self._choose_nodules(deep, random)

    def _choose_nodules(self, deep: np.ndarray, random: np.random.Generator) -> tuple[Nodule, ...]:
        ends = np.array([s.end for s in self.arteries + self.veins if s.radius > 1.2])
        chosen: list[Nodule] = []
        for diameter, hu in zip((3.5, 9.0, 5.5, 7.0, 4.2, 8.0), (30, 40, 10, -600, 50, -20), strict=True):
            for _ in range(200):
                center = deep[random.integers(len(deep))]
                free = np.linalg.norm(ends - center, axis=1).min() > diameter / 2 + 5
                apart = all(np.linalg.norm(center - other.center) > 25 for other in chosen)
                near = abs(center[2]) < 60 if len(chosen) < 4 else True
                if free and apart and near:
                    size = diameter * random.uniform(0.9, 1.1)
                    x, y, z = map(float, center)
                    chosen.append(Nodule((x, y, z), float(size), float(hu)))
                    break
        return tuple(chosen)

    def draw_tubes(self, canvas: _Canvas, motion: float) -> None:
        """Vessels, airways, great vessels and clavicles."""

        def path(kind: str, radii: float | tuple[float, ...], *ends: tuple[float, float, float]) -> None:
            widths = radii if isinstance(radii, tuple) else (radii,) * len(ends)
            places = self.moved(np.array(ends, float), motion)
            for at in range(len(places) - 1):
                canvas.cone(kind, places[at], places[at + 1], widths[at], widths[at + 1])

        def grow(kind: str, tree: list[_Segment], aside: float, scale: float, thicker: float) -> None:
            starts = np.array([s.start + aside * s.radius * _beside(s.start) for s in tree])
            ends = np.array([s.end + aside * s.end_radius * _beside(s.start) for s in tree])
            starts, ends = self.moved(starts, motion), self.moved(ends, motion)
            radii = np.array([(s.radius, s.end_radius) for s in tree]) * scale + thicker
            canvas.cones(kind, starts, ends, *radii.T)

        for tree in (self.arteries, self.veins):
            grow("blood", tree, 0, 1, 0)
        with_airway = [s for s in self.arteries if s.radius > 1.3]  # airways go beside arteries
        grow("wall", with_airway, 1.7, 0.72, 0.6)
        grow("lumen", with_airway, 1.7, 0.72, 0)
        for kind, thicker in (("wall", 1.3), ("lumen", 0.0)):
            path(kind, 8.5 + thicker, (0, 6, 150), (0, 10, 90), (-1, 16, 42))
            path(kind, (7.6 + thicker, 6 + thicker), (-1, 16, 42), (-33.5, 13.5, 11.8))
            path(kind, (7.0 + thicker, 5.6 + thicker), (-1, 16, 42), (41.5, 16, 21.5))
        path("great", (15.5, 16, 16, 14, 12.5, 12, 11.5), (6, -24, -25), (-10, -28, 30), (-2, -16, 62),
             (18, 10, 64), (26, 34, 45), (25, 38, -20), (12, 38, -150))  # fmt: skip
        path("great", (14, 13.5, 11, 8), (26, -38, -20), (22, -26, 18), (30, -10, 28), (40, 5, 18))
        path("great", (11, 10.5, 8), (20, -20, 16), (0, -4, 14), (-35, 2, 8))
        path("great", 9.0, (-27, -16, 105), (-28, -18, 0), (-24, -18, -45))
        path("great", (8, 8, 7), (-27, -16, 100), (20, -24, 92), (45, -16, 135))
        path("great", (6.5, 5, 5), (-8, -8, 68), (-14, 0, 105), (-24, 6, 150))
        path("great", (4.5, 4, 4), (4, -2, 74), (8, 4, 105), (14, 6, 150))
        path("great", (5, 4.5, 4.5), (17, 10, 70), (22, 16, 105), (34, 14, 150))
        path("great", 3.6, (-11, 37, 40), (-10, 38, -150))
        path("great", (6.5, 7, 6.5, 7.5), (4, 26, 150), (4, 29, 30), (4, 29, -60), (16, 24, -150))
        for side in (-1, 1):
            outer = np.array([side * 105.0, 5.0, 138.0])
            canvas.cone("bone", np.array([side * 20.0, -38.0, 106.0]), outer, 7.5, 6)
        for nodule in self.nodules:
            center = self.moved(np.array(nodule.center), motion)
            canvas.cone("nodule", center, center, nodule.diameter / 2, nodule.diameter / 2)

    # --- one slice ---

    def slice(
        self, x: np.ndarray, y: np.ndarray, z: float, motion: float, blur: float, tubes: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """HU and labels of one slice. Later tissue covers earlier."""
        x, y = np.broadcast_arrays(x, y)
        level = np.full_like(x, z)
        here: Points = (x, y, level)
        rest = self.at_rest(here, motion)
        fine, coarse = self._noise(rest, 2.6), self._noise(rest, 17.0)
        fixed = self._noise(here, 8.0)

        def inside(distance: np.ndarray) -> np.ndarray:
            return np.clip(0.5 - distance / blur, 0, 1)

        hu = self._table(x, y, inside)
        body = self.body(x, y, z)
        covered = inside(body)
        cavity = self.cavity(x, y, level)
        wall = self._wall(x, y, z, body, cavity, fixed, self._noise(here, 30.0), inside)
        hu = _over(hu, wall, covered)

        contents = self._contents(rest, cavity, fixed, coarse, tubes, inside)
        hu = _over(hu, contents, inside(cavity))
        lung = self.lung(here, rest)
        air_space = inside(lung)
        parenchyma = self._parenchyma(rest, fine, coarse)
        hu = _over(hu, parenchyma, air_space)
        heart, below = inside(self.heart(*rest)), inside(self.diaphragm(*rest))
        above = inside(cavity) * (1 - heart) * (1 - below)
        hu = _over(hu, np.float32(BLOOD), np.maximum(tubes["blood"], tubes["great"]) * above)
        hu = self._with_nodules(hu, rest, air_space, tubes["nodule"], fine)
        airway = tubes["lumen"] * (1 - heart)
        hu = _over(hu, np.float32(30.0), tubes["wall"] * (1 - heart))
        hu = _over(hu, np.float32(AIR + 8), airway)
        hu = _over(hu, np.float32(28.0), inside(_oval(x, y - 75, 10.5, 9, 2)))  # spinal canal
        bone_hu, bone = self._bones(x, y, z, cavity, fixed, tubes, inside)
        hu = _over(hu, bone_hu, bone)

        labels = np.full(x.shape, Region.BACKGROUND, np.uint8)
        labels[covered >= 0.5] = Region.SOFT_TISSUE
        labels[(np.maximum(air_space, airway) >= 0.5) & (hu < -400)] = Region.LUNG
        labels[(bone >= 0.5) & (hu > 130)] = Region.BONE
        return hu, labels

    def _noise(self, points: Points, knot_mm: float) -> np.ndarray:
        """Smooth random field of unit variance whose grain is about two knots."""
        turned = (0.8 * points[2] + 0.6 * points[1], 0.8 * points[1] - 0.6 * points[2], points[0])
        places = np.stack([axis / np.float32(knot_mm) for axis in turned])
        return ndimage.map_coordinates(self.noise, places, order=1, mode="grid-wrap", output=np.float32)

    def _table(self, x: np.ndarray, y: np.ndarray, inside: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        top = 108.5 - 9 * (x / 130) ** 2
        outer = np.maximum(np.abs(y - (top + 13)) - 13, np.abs(x) - 190)
        hu = _over(np.full_like(x, AIR), np.float32(-180.0), inside(outer))
        return _over(hu, np.float32(-945.0), inside(outer + 2.2))

    def _wall(
        self,
        x: np.ndarray,
        y: np.ndarray,
        z: float,
        body: np.ndarray,
        cavity: np.ndarray,
        texture: np.ndarray,
        coarse: np.ndarray,
        inside: Callable[[np.ndarray], np.ndarray],
    ) -> np.ndarray:
        """Skin, fat, muscle groups with fat between them."""
        angle = np.arctan2(y, x)
        thickness = self.fat * (1 + 0.3 * np.cos(2 * angle) + 0.25 * np.cos(3 * angle + self.wobble[2]))
        hu = np.where(texture > 2.2, -70.0, FAT + 6 * texture).astype(np.float32)
        hu = _over(np.full_like(x, 25.0), hu, inside(body + 1.8))
        muscle = np.maximum(body + 1.8 + np.maximum(thickness, 3), 2.2 - cavity)
        axilla = _ellipsoid(np.abs(x) - 116, y + 4, np.float32(z - 82), 19, 28, 55) + 5 * texture
        muscle = np.maximum(muscle, -np.maximum(axilla, body + 9))
        for depth, width in ((12, 0.9), (25, 0.8)):  # fat between the groups, here and there
            plane = np.abs(cavity - depth - 3.5 * np.cos(2 * angle + self.wobble[3]) - 1.5 * texture)
            muscle = np.maximum(muscle, 1.6 * width * np.clip(0.2 + coarse, -0.5, 1) - plane)
        return _over(hu, MUSCLE + 4 * texture, inside(muscle))

    def _contents(
        self,
        rest: Points,
        cavity: np.ndarray,
        texture: np.ndarray,
        coarse: np.ndarray,
        tubes: dict[str, np.ndarray],
        inside: Callable[[np.ndarray], np.ndarray],
    ) -> np.ndarray:
        """Mediastinum with heart and great vessels; organs below the diaphragm."""
        x, y, z = rest
        heart = self.heart(x, y, z)
        hu = np.float32(FAT + 6) + 5 * texture
        nodes = np.maximum(1.9 - coarse, 0) * 4  # lymph nodes and small vessels in the fat
        hu = _over(hu, np.float32(35.0), inside(nodes - 0.4))
        hu = _over(hu, np.float32(BLOOD + 8), inside(heart + 3 + 2 * np.clip(coarse, -1, 1)))
        groove = np.abs(0.72 * (x - 24) - 0.48 * (y + 30) - 0.5 * (z + 52) + 24) - 2.2 - 1.2 * coarse
        hu = _over(hu, np.float32(FAT + 25), inside(np.maximum(groove, -heart - 13)) * inside(heart))
        hu = _over(hu, np.float32(BLOOD), tubes["great"])
        below = self.diaphragm(x, y, z)
        liver = np.maximum(below + 3, x - 22 + 0.25 * (y + 30) + 4 * coarse)
        spleen = _ellipsoid(x - 78, y - 32, z + 122, 36, 40, 42)
        stomach = _ellipsoid(x - 58, y + 22, z + 124, 44, 42, 40)
        gas = np.maximum(stomach + 4, y + 38)
        abdomen = np.full_like(x, FAT)
        abdomen = _over(abdomen, np.float32(38.0), inside(stomach))
        abdomen = _over(abdomen, np.float32(AIR), inside(gas))
        abdomen = _over(abdomen, np.float32(50.0), inside(spleen))
        abdomen = _over(abdomen, 58 + 2 * texture, inside(liver))
        abdomen = _over(abdomen, np.float32(BLOOD), tubes["great"])
        muscle = np.maximum(np.abs(below + 1.5) - 1.5, cavity)
        abdomen = _over(abdomen, np.float32(45.0), inside(muscle))
        return _over(hu, abdomen, inside(np.maximum(below, -heart)))

    def _parenchyma(self, rest: Points, fine: np.ndarray, coarse: np.ndarray) -> np.ndarray:
        """Lung tissue: denser towards the back, mottled, with a thin oblique fissure on either side."""
        x, y, z = rest
        hu = self.lung_hu + self.dependent * y + 18 * fine + 9 * coarse
        fissure = 0.62 * (y - 5) + 0.78 * (z + 12) + 0.0022 * (np.abs(x) - 70) ** 2 + 2.0 * coarse
        return _over(hu, np.float32(-690.0), np.clip(0.75 - np.abs(fissure) / 1.5, 0, 0.6))

    def _with_nodules(
        self, hu: np.ndarray, rest: Points, lung: np.ndarray, covered: np.ndarray, fine: np.ndarray
    ) -> np.ndarray:
        if not covered.any():
            return hu
        x, y, z = rest
        distance = [
            np.sqrt(sum((axis - c) ** 2 for axis, c in zip((x, y, z), nodule.center, strict=True)))
            for nodule in self.nodules
        ]
        nearest = np.argmin(distance, axis=0)
        inner = np.array([nodule.hu for nodule in self.nodules], np.float32)[nearest]
        return _over(hu, inner + 4 * fine, covered * lung)

    def _bones(
        self,
        x: np.ndarray,
        y: np.ndarray,
        z: float,
        cavity: np.ndarray,
        texture: np.ndarray,
        tubes: dict[str, np.ndarray],
        inside: Callable[[np.ndarray], np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray]:
        """HU of bone and how much of each pixel is bone: ribs, spine, sternum, shoulder blades, clavicles."""
        # Ribs: bands around the cavity that sink from the back to the front, 25 mm apart.
        turn = np.arctan2(np.abs(x), y - 10)  # 0 at the back, pi at the front
        drop = 115 * _step(turn / 3.1)
        phase = (z + drop + self.rib_phase) / 25
        off = (phase - np.round(phase)) * 25
        rib = np.sqrt((cavity - 5.6) ** 2 / 3.4**2 + off**2 / 5.6**2)
        rib = (rib - 1) * 3.6
        rib = np.maximum(rib, 12 - np.abs(x))
        cartilage = _step((turn - 2.35) / 0.25)

        sternum = _oval(x, y + self._front(z) - 8, 17 + 9 * _step((z - 62) / 25), 5.2, 3.0)
        sternum = np.maximum(sternum, np.maximum(-70 - z, z - 104))
        blade_y = 62 - 0.42 * (np.abs(x) - 62) - 0.002 * (np.abs(x) - 95) ** 2
        blade = np.abs(y - blade_y) * 0.9 - 1.9 - 4.5 * _step((np.abs(x) - 112) / 14)
        reach = 34 * _step((z - 10) / 70)  # narrow below, wide above
        blade = np.maximum(blade, np.abs(np.abs(x) - 128 + reach) - reach)
        blade = np.maximum(blade, -(cavity - 14))

        shell = _smooth_min(rib, np.minimum(sternum, blade), 0.5)
        hu = np.where(shell > -1.5, CORTICAL - 250, MARROW + 25 * texture).astype(np.float32)
        hu = _over(hu, np.float32(CARTILAGE), cartilage * (rib < 1.5))
        covered = inside(shell)

        spine_hu, spine = self._spine(x, y, z, texture, inside)
        hu = _over(hu, spine_hu, (spine > 0).astype(np.float32))
        covered = np.maximum(covered, spine)
        hu = np.where(tubes["bone"] > covered, np.float32(480.0), hu)
        return hu, np.maximum(covered, tubes["bone"])

    def _front(self, z: float) -> float:
        """Distance from the axis to the inner face of the chest in front."""
        _, depth, center = self._cavity_axes(np.float32(z))
        return float(depth - center)

    def _spine(
        self, x: np.ndarray, y: np.ndarray, z: float, texture: np.ndarray, inside: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Vertebral body or disc, arch, processes."""
        level = (z + self.spine_phase) / 24
        off = abs(level - round(level)) * 24  # 0 in the middle of a vertebra, 12 in the middle of a disc
        body = self.vertebra(x, y) + 1.2 * _bell(off, 5, 3)
        is_disc = _step((off - 8.5) / 1.5)
        body_hu = np.where(body > -1.6, 520.0, MARROW + 30 * texture)
        body_hu = _over(body_hu, np.float32(620.0), np.full_like(x, _bell(off, 8.8, 0.8)))
        body_hu = _over(body_hu, np.float32(85.0), np.full_like(x, is_disc))

        ring = np.abs(_oval(x, y - 75, 12, 10.5, 2)) - 2.6
        ring = np.maximum(ring, -(y - 62)) if off < 7 else np.maximum(ring, -(y - 79))
        transverse = _capsule(np.abs(x), y, (13.0, 76.0), (32.0, 84.0), 3.8) + 3.0 * _step((off - 3) / 5)
        spinous = _capsule(x, y, (0.0, 86.0), (0.0, 98.0), 3.0) + 1.5 * _bell(off, 12, 4)
        arch = _smooth_min(np.minimum(ring, spinous), transverse, 2)
        arch_hu = np.where(arch > -1.6, 520.0, MARROW + 40)
        hu = np.where(arch < body, arch_hu, body_hu).astype(np.float32)
        return hu, inside(np.minimum(body, arch))


def _branch(
    tree: list[_Segment], start: np.ndarray, points: np.ndarray, radius: float, random: np.random.Generator
) -> None:
    """Grow a tree that reaches every part of a cloud of points.

    The cloud is halved again and again along its longest axis; every half gets a branch. Radii follow Murray's law:
    the cube of a radius is proportional to what it feeds.
    """
    pending = [(start, points, radius)]
    while pending:
        start, points, radius = pending.pop()
        if len(points) < 2 or radius < 0.35:
            continue
        middle = points.mean(axis=0)
        end = start + 0.45 * (middle - start) if len(points) > 3 else middle
        end = end + random.normal(size=3) * 0.05 * np.linalg.norm(end - start)
        tree.append(_Segment(start, end, radius, 0.94 * radius))
        spread = points - middle
        longest = np.linalg.eigh(spread.T @ spread)[1][:, -1]
        order = np.argsort(spread @ longest)
        cut = int(len(points) * random.uniform(0.35, 0.65))
        for part in (order[:cut], order[cut:]):
            if len(part):
                pending.append((end, points[part], 0.98 * radius * (len(part) / len(points)) ** (1 / 3)))


def _beside(start: np.ndarray) -> np.ndarray:
    """The side of an artery on which its airway lies."""
    return np.array([0.3 * np.sign(start[0]), 0.9, 0.3])


def _over(hu: np.ndarray, tissue: np.ndarray | np.float32, covered: np.ndarray) -> np.ndarray:
    return hu + covered * (tissue - hu)


def _step(x):
    """0 below 0, 1 above 1, smooth in between."""
    t = np.clip(x, 0, 1)
    return t * t * (3 - 2 * t)


def _bell(x, center: float, width: float):
    return np.exp(-(((x - center) / width) ** 2))


def _smooth_min(a: np.ndarray, b: np.ndarray, rounding: float) -> np.ndarray:
    """Minimum of two distances with a fillet of some mm (polynomial form, I. Quilez)."""
    blend = np.maximum(rounding - np.abs(a - b), 0) / rounding
    return np.minimum(a, b) - blend * blend * (rounding / 4)


def _smooth_max(a: np.ndarray, b: np.ndarray, rounding: float) -> np.ndarray:
    return -_smooth_min(-a, -b, rounding)


def _oval(x: np.ndarray, y: np.ndarray, a: float | np.ndarray, b: float | np.ndarray, power: float) -> np.ndarray:
    """About the distance to |x/a|^p + |y/b|^p = 1: its level over its slope."""
    u, v = np.abs(x / a), np.abs(y / b)
    low_u, low_v = u ** (power - 1), v ** (power - 1)
    level = np.maximum(low_u * u + low_v * v, 1e-6)
    root = level ** (1 / power)
    slope = np.hypot(low_u / a, low_v / b) * root / level
    return (root - 1) / np.maximum(slope, 1e-4)


def _ellipsoid(x: np.ndarray, y: np.ndarray, z: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
    level = np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2)
    slope = np.sqrt((x / a**2) ** 2 + (y / b**2) ** 2 + (z / c**2) ** 2)
    return level * (level - 1) / np.maximum(slope, 1e-4)


def _capsule(
    x: np.ndarray, y: np.ndarray, start: tuple[float, float], end: tuple[float, float], radius: float
) -> np.ndarray:
    dx, dy = end[0] - start[0], end[1] - start[1]
    place = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    return np.hypot(x - start[0] - place * dx, y - start[1] - place * dy) - radius
