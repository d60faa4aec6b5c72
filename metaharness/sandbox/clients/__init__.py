"""What lets unmodified `openai` and `anthropic` clients inside a worker reach the door; see following.py."""
