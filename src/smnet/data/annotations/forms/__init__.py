"""The annotation forms, one per file. Each file ends in a ``Form`` that ``formats`` lists."""
