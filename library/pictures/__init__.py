"""What pictures are drawn from and what their files tell: prompts with their options, and the texts in a PNG."""
