"""Learning as it runs: the loop, its records, one run or many side by side, whole episodes."""
