"""The hubs that a lab can run against, behind one small client protocol."""
