"""Rusu et al. 2017: learning curves in simulation and on the arm."""
