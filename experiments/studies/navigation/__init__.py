"""Mirowski et al. 2017: navigators tested, and figures 3 to 7."""
