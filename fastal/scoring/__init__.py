"""What a score is: measures, and the scorer that applies them to chunks."""
