"""The journey domain: pure functions and frozen values. No I/O, no clock, no framework."""
