"""The benchmark's suites, one for each world; `stages` has the shared timing and the stages of a learner."""
