"""Everything that only reports: outputs, log files, control characters in them; never raises on a full disk or a closed pipe."""
