"""The benchmark's suites, one a world; `stages` has what they share: timing, and the stages of a learner."""
