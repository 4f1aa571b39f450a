"""The devices and hosts that a program runs on, and the signals that end it."""
