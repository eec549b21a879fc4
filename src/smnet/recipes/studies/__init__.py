"""Studies: what the variants of a comparison differ in, one YAML file a table."""
