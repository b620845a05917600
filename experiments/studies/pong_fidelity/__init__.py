"""Whether our Pong matches the emulator's: the same measurements of both."""
