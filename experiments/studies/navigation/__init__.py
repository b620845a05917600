"""Mirowski et al. 2017: tests of navigators, and figures 3 to 7."""
