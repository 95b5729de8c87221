"""IPv2: image purification, simulation and denoising for ultra-low-dose lung CT.

The library knows nothing of Slicer.
"""

__version__ = "0.1.0"
