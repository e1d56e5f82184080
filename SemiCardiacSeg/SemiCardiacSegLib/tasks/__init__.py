"""What a user does with the module: segment, measure, correct, manage models, try it with sample data."""
