"""IPv2: image purification, simulation and denoising for ultra-low-dose lung CT.

The library runs without the Slicer application; only `scene*` and `pictures` touch MRML.
"""

__version__ = "0.1.0"
