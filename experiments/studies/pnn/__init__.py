"""Rusu et al. 2016: the transfer matrix, what is forgotten, and what the columns are used for."""
