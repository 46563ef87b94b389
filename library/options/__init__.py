"""Options, declared once: everything that is known of a command before torch is imported."""
