"""Settings of the whole suite."""

import os

from hypothesis import settings

# In CI the examples are the same on every run: a change is judged by what it changed, and not by luck.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("ci")
