"""`unclip serve`: the Images API on any bundle. Nothing here is imported outside this folder and its verb."""
