"""What the modules IPv2 Denoise and IPv2 Train share: jobs, packages, messages, views.

Needs Slicer's Qt. What works without it is `IPv2Lib`'s.
"""
