"""What the module SemiCardiacSeg is made of.

Importing any part of it imports neither PyTorch nor the engine's requirements: those may not be installed yet.
"""
