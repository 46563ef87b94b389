"""The grid of tools/compare_networks.py: prompts, files and strengths, its page, its sheet and the losses below it."""
