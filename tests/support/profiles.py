"""How much hypothesis searches, by HYPOTHESIS_PROFILE: CONTRIBUTING.md says what runs under which."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EXAMPLES = {"default": 40, "ci": 40, "quick": 20, "few": 6, "thorough": 4000}  # of most tests; some have a multiple
SAME_EACH_TIME = {"ci", "quick", "few"}

PROFILE = os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default")

for name, examples in EXAMPLES.items():
    settings.register_profile(
        name,
        max_examples=examples,
        deadline=None,
        derandomize=name in SAME_EACH_TIME,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile(PROFILE)
