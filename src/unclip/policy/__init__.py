"""Content policy: rules of what may be drawn, chosen by name or written by the user, and measured.

    from unclip.policy import Policy

    policy = Policy.named("dalle2")
    policy.check_prompt("a red apple")

`docs/policy.md` says what each preset refuses, and how often it errs. Nothing is sent anywhere, and no rule
looks at who somebody in a picture is.
"""

from __future__ import annotations

from unclip.policy.policy import EVERYTHING, NONE, Policy

__all__ = ["EVERYTHING", "NONE", "Policy"]
