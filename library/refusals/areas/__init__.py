"""The kinds of refusal, one file per area; a code is never reused for another kind, and never removed."""
