"""Adapters for other tools, one tool a file. Each imports its tool."""
