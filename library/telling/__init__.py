"""Everything that only reports: outputs, log files and the control characters in them; nothing here raises on a full disk or a closed
pipe."""
