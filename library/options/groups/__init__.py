"""The training scripts' options by subject, one frozen dataclass each, and the groups of each script."""
