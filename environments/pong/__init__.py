"""Atari Pong, its eight variants of the picture, and nothing of the emulator: integers in, pixels out."""
