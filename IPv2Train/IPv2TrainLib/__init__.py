"""What the module IPv2 Train is made of: the sections of its panel, and how its logic starts jobs.

`IPv2Train.py` puts the pieces together. Data sets, training and scores are `IPv2Lib`'s; a run and a data set are
folders, which have a life of their own outside the scene.
"""
