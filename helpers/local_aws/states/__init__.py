"""Step Functions: what the embedded AWS adds to ministack's own."""
