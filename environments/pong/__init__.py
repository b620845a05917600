"""Atari Pong with its eight variants of the picture, without the emulator: integers in, pixels out."""
