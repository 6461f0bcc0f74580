"""What leaves the machine: pseudonyms, redacted names and texts, manifests made for release."""
