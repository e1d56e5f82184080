"""Networks, models that are saved and loaded, and what they predict."""
