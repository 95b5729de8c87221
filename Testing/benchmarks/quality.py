"""The bundled models measured like a medical physicist would: `python Testing/benchmarks/quality.py [MODEL ...]`.

One table of numbers with the bars that they have to meet: simulated low dose on the validation scans and a synthetic
chest, real low dose, scans unlike those that were learned from; against classical filters tuned for every dose, and
against rival networks. Writes quality.csv (every number), quality.json (what they were measured with) and pictures.
Needs the scans in the folder that IPV2_DATA names, or ../shared/data, for all but the synthetic chest.

    part 1  error in the body       5  other kernels, doses, pixel sizes
         2  bias of tissues         6  normal dose; head, abdomen, metal
         3  edges, nodules,         7  a real low-dose scan
            things invented         8  GPU, half precision
         4  noise and its texture (`ipv2 physics`)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import scipy
import SimpleITK as sitk
import skimage
from IPv2Lib import __version__
from IPv2Lib.models import bundle
from quality_cache import Cache
from quality_cases import TRAINING, VALIDATION
from quality_filters import CHEAP, FILTERS
from quality_limits import devices, low_noise, other_anatomy, other_scanners, real_scan
from quality_methods import Bench, Method, from_bundle, say
from quality_nodules import invented, kept
from quality_parts import bias, border_sharpness, error
from quality_physics import noise_and_texture
from quality_pictures import draw_all
from quality_rows import Row, summary, table, write_csv

DEFAULT = ("ipv2-fast", "ipv2-quality")
Part = Callable[[Bench], list[Row]]
PARTS: dict[int, tuple[Part, ...]] = {
    1: (error,),
    2: (bias,),
    3: (border_sharpness, kept, invented),
    4: (noise_and_texture,),
    5: (other_scanners,),
    6: (low_noise, other_anatomy),
    7: (real_scan,),
    8: (devices,),
}


def main(arguments: list[str] | None = None) -> list[Row]:
    """Run the benchmark; the rows of the table."""
    options = _parser().parse_args(arguments)
    began = time.perf_counter()
    models = [
        from_bundle(
            bundle.load(name),
            residual_noise_hu=options.residual_noise,
            test_time_augmentation=options.tta,
        )
        for name in options.models or DEFAULT
    ]
    rivals = [from_bundle(bundle.load(Path(folder)), rival=True) for folder in options.rivals]
    options.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(
        models,
        rivals,
        slices=options.slices,
        quick=options.quick,
        filters=options.filters or (CHEAP if options.quick else tuple(FILTERS)),
        kept=Cache(options.out / "cache"),
        scans=options.scans,
        jobs=1 if options.quick else options.jobs,
    )
    rows: list[Row] = []
    try:
        for number in options.only or PARTS:
            for part in PARTS[number]:
                start = time.perf_counter()
                rows += part(bench)
                say(f"part {number}, {part.__name__}: {time.perf_counter() - start:.0f} s")
        draw_all(bench, options.out, options.only or list(PARTS))
    finally:
        bench.close()
    print(table(rows))
    print(f"\n{summary(rows)}")
    write_csv(options.out / "quality.csv", rows)
    about = _about(bench, options, time.perf_counter() - began)
    (options.out / "quality.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="name or folder of a bundle")
    parser.add_argument("--rivals", nargs="+", default=[], metavar="FOLDER", help="bundles to compare with")
    parser.add_argument(
        "--residual-noise", type=float, metavar="HU", help="that the models keep (what their cards say)"
    )
    parser.add_argument("--tta", action="store_true", help="of the models: eight times as long")
    parser.add_argument("--out", type=Path, default=Path("runs/quality"), metavar="FOLDER")
    parser.add_argument("--only", nargs="+", type=int, choices=list(PARTS), metavar="PART", help="1 to 8")
    scans = sorted({*TRAINING, *VALIDATION})
    parser.add_argument(
        "--scans", nargs="+", choices=scans, default=VALIDATION, metavar="SCAN",
        help=f"of parts 1 to 4: {', '.join(scans)} (those that were not trained on)",
    )  # fmt: skip
    parser.add_argument("--filters", nargs="+", choices=tuple(FILTERS), metavar="FILTER", help="only these")
    parser.add_argument("--slices", type=int, default=3, help="scored of each scan (3)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes for filters (all cores)")
    parser.add_argument("--quick", action="store_true", help="one slice of each scan, 2 %% dose, three filters")
    return parser


def _about(bench: Bench, options: argparse.Namespace, seconds: float) -> dict[str, object]:
    import torch

    def described(method: Method) -> dict[str, str]:
        return {"name": method.name, "role": method.role, "weights_sha256": method.model.hash}

    modules = {"numpy": np, "scipy": scipy, "scikit-image": skimage, "torch": torch}
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(seconds),
        "seed": 0,
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": {
            "IPv2Lib": __version__,
            "python": platform.python_version(),
            "SimpleITK": sitk.Version.VersionString(),
            **{name: module.__version__ for name, module in modules.items()},
        },
        "options": {
            key: value if isinstance(value, (int, list)) else str(value) for key, value in vars(options).items()
        },
        "models": [described(method) for method in [*bench.models, *bench.rivals]],
        "scans": {scan: _described_block(bench, scan) for scan in bench.scans},
        "filters": bench.tuned,
    }


def _described_block(bench: Bench, scan: str) -> dict[str, object]:
    """Which slices of a scan were scored."""
    block = bench.block(scan)
    return {"block": block.name, "spacing_mm": list(block.clean.spacing)}


if __name__ == "__main__":
    main()
