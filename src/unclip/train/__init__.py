"""Training: one loop for every model (`loop`), the tasks it trains (`tasks`), many processes (`parallel`)."""
