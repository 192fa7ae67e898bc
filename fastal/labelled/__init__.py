"""What predictions say of given labels."""
