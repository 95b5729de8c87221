"""What the module IPv2 Denoise is made of: the sections of its panel, and how its logic starts jobs.

`IPv2Denoise.py` puts the pieces together. Image arithmetic and the scene are `IPv2Lib`'s.
"""
