"""Options, each declared once: everything known about a command before torch is imported."""
