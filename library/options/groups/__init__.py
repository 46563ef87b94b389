"""The training scripts' options by subject, one frozen dataclass each, and which script has which."""
