"""Jobs: folders that say what to do and tell how far it came."""
