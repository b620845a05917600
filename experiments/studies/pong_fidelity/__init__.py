"""Whether our Pong is the emulator's: the same measurements of both."""
