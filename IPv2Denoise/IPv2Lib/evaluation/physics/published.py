"""Figures that others have published, to stand beside: each with its source. They were measured on other phantoms."""

from __future__ import annotations

COLUMNS = ("what", "noise", "texture", "sharpness", "task", "source")

ROWS: tuple[tuple[str, ...], ...] = (
    (
        "ClariCT.AI", "−39 to −49 %", "mean frequency −16 %", "MTF50 within 1.4 %, MTF10 within 3.6 %", "",
        "AAPM 2026, #2456 and #2344",
    ),
    (
        "TrueFidelity, low / medium / high", "50 % of the dose",
        "peak 0 to +10 %; nNPS RMSD 0.03 / 0.04 / 0.07", "TTF50 at least that of FBP", "d′ +10 % over ASiR-V 100",
        "Phys. Med. 2021; Greffier 2020",
    ),
    ("ASiR-V 50 / 100", "", "nNPS RMSD 0.14 / 0.38; peak −27 to −57 %", "", "", "the same"),
    (
        "AiCE V10 / V8", "−4 to −48 %", "mean frequency +5 to +45 %", "",
        "d′ +10 to +11 %; at 0.16 mSv CAD 83.4 against 74.0 %", "BMC Med. Imaging 2025",
    ),
    ("networks of all vendors", "", "", "", "dose −44 to −83 % at equal detectability", "BJR review, PMC10546449"),
    (
        "seven networks", "chest nodules at 10 %: RMSE 137 → 62 to 78 HU", "", "",
        "diameter error 2.05 → 1.44 %", "JACMP 2026, PMC12831282",
    ),
    (
        "local fusion by uncertainty", "", "", "", "detectability +12.9 %", "Gong et al., IEEE TBME 2026",
    ),
    (
        "structure in what was removed", "", "", "",
        "correlation: RED-CNN 0.28, CTformer 0.21, ClariCT.AI 0.15, pure noise 0.02", "Diagnostics 2024, 14:96",
    ),
)  # fmt: skip
