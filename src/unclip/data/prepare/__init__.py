"""Preparing pictures of one's own: sources, rules, shards, and a report of what was dropped and why."""
