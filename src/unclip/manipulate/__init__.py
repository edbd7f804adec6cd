"""Pictures changed: each function takes a model and tells of its work by events, as `Pipeline.stream`."""
