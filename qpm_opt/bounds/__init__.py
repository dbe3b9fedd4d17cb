"""Upper bounds that hold for the whole problem, each with its certificate."""
