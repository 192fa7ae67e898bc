"""Pictures and the demo."""
