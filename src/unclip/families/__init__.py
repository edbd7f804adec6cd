"""How each family of bundles draws: one file a family."""
