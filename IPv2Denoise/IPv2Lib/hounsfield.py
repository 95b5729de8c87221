"""Values in HU that several rooms share."""

AIR_HU = -1000.0
"""Air of a room; also what networks see, and data sets hold, where a scanner wrote padding."""

NO_DATA_HU = -1024.0
"""Where there is no measurement: outside the field of view, and outside a volume that is resampled."""

LUNG_WINDOW, LUNG_LEVEL = 1500.0, -600.0
