"""Combined strategies: uncertainty and diversity together, and transfer learning."""
