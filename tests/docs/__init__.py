"""The documentation, held against the code: what it shows is parsed, validated and run; what it lists is complete."""
