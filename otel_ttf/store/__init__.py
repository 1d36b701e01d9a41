"""State, transitions, figures and events."""
