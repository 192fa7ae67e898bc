"""Pictures and the demonstration."""
