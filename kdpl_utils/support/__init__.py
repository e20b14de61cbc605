"""Files, pictures, progress, statistics: code that knows nothing of the method."""
