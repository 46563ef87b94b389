"""The kinds of refusal, a file for each area; a code is never given to another kind, and never taken away."""
