"""What a slice view shows, as pixels.

Slicer's own slice pipeline (`vtkMRMLSliceLogic`) computes them on the CPU: it needs neither a display nor OpenGL.
"""

from __future__ import annotations

import numpy as np
import slicer
from IPv2SlicerLib.scene.display import slice_logic
from vtk.util.numpy_support import vtk_to_numpy


def render_view(view: slicer.vtkMRMLSliceNode, size: tuple[int, int] | None = None) -> np.ndarray:
    """What a slice view of the scene shows: background, foreground and label map as Slicer blends them.

    Parameters
    ----------
    view : vtkMRMLSliceNode
    size : (columns, rows), optional
        Pixels; the field of view keeps its height, as when a window is resized. Default: the size of the view.

    Returns
    -------
    ndarray of uint8, shape (rows, columns, 3)
        Black where there is no volume.
    """
    if size is not None:
        height = view.GetFieldOfView()[1]
        view.SetDimensions(*size, 1)
        view.SetFieldOfView(height * size[0] / size[1], height, view.GetFieldOfView()[2])
    return _rgb(slice_logic(view))


def _rgb(logic) -> np.ndarray:
    """The blended image of a slice logic, top row first."""
    connection = logic.GetImageDataConnection()
    if connection is None:
        width, height, _ = logic.GetSliceNode().GetDimensions()
        return np.zeros((height, width, 3), np.uint8)
    connection.GetProducer().Update()
    image = connection.GetProducer().GetOutputDataObject(connection.GetIndex())
    width, height, _ = image.GetDimensions()
    rgba = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, 4)[::-1]
    # Outside of the volume alpha is 0 and the colour arbitrary; a slice view is black behind it.
    return (rgba[..., :3].astype(np.uint16) * rgba[..., 3:] // 255).astype(np.uint8)
