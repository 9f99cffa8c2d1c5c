"""How much hypothesis searches, by HYPOTHESIS_PROFILE: CONTRIBUTING.md says what runs under which."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("default", max_examples=200, **common)
settings.register_profile("ci", max_examples=200, derandomize=True, print_blob=True, **common)
settings.register_profile("quick", max_examples=20, derandomize=True, print_blob=True, **common)
settings.register_profile("few", max_examples=6, derandomize=True, print_blob=True, **common)
settings.register_profile("thorough", max_examples=4000, **common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))
