"""Rusu et al. 2016: the transfer matrix, what it costs to forget, and what columns are used for."""
