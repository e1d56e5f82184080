"""What any program needs: errors, files, events, texts, tables, processes."""
